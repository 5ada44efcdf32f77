//! Keys and drawing, without a terminal: the frame is drawn into a buffer.

use pgdibs_testing::examples::Example;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::draw::{Palette, draw};
use super::model::{Command, Mode, Model};

fn model() -> Model {
    let lease = |slot: u32, run: &str, held: u32| {
        json!({"id": format!("id-{slot}"), "database": format!("app_gw{slot}"), "slot": slot, "pool": "app", "run": run,
            "worker": format!("gw{slot}"), "holder": format!("ci-{run}\u{1b}[2J"), "acquired_at": format!("2026-11-21T11:59:{held:02}Z"),
            "expires_at": "2026-11-21T12:01:00Z"})
    };
    let status = json!({
        "taken_at": "2026-11-21T12:00:00Z",
        "server": {"limits": {"free_disk_bytes": 1_073_741_824}},
        "leases": Example::Lease.each(&[lease(0, "a", 10), lease(1, "b", 50), lease(2, "b", 1)]),
        "databases": Example::Database.each(&[
            json!({"database": "app_gw0", "state": "leased", "slot": 0, "pool": "app", "lease": "id-0", "sessions": 7}),
            json!({"database": "app_kept_9", "state": "kept", "slot": null, "pool": "app", "lease": null, "reason": "test_x failed", "kept_until": "2026-11-21T13:00:00Z"}),
        ]),
        "pools": [Example::Pool.with(&json!({"pool": "app", "max": 4, "blocked": [], "templates": [],
            "counts": {"ready": 1, "leased": 3, "spare": 2, "waiting": 0}}))],
        "runs": [], "waiters": [],
    });
    let mut model = Model::new("http://127.0.0.1:7432");
    model.update(Ok(serde_json::from_value(Example::Status.with(&status)).unwrap()));
    model
}

fn press(model: &mut Model, keys: &str) -> Option<Command> {
    keys.chars().fold(None, |_, key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '↓' => KeyCode::Down,
            key => KeyCode::Char(key),
        };
        model.key(KeyEvent::new(code, KeyModifiers::NONE))
    })
}

fn databases(model: &Model) -> Vec<String> {
    model.rows().into_iter().map(|row| row.database).collect()
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, Palette(true))).unwrap();
    terminal.backend().to_string()
}

#[test]
fn release_asks_and_takes_yes_alone() {
    let mut model = model();
    assert_eq!(press(&mut model, "↓r"), None);
    assert!(screen(&model, 100, 20).contains("release app_gw1? ci-b"), "{}", screen(&model, 100, 20));
    let command = Command::Release { lease: "id-1".to_owned(), database: "app_gw1".to_owned() };
    assert_eq!(press(&mut model, "y"), Some(command));
    for other in ["rn", "r\n", "r\u{1b}", "rr"] {
        assert_eq!(press(&mut model, other), None, "{other}");
        assert_eq!(model.mode, Mode::Rows);
    }
}

#[test]
fn keep_takes_its_reason_and_kept_row_refuses() {
    let mut model = model();
    let reason = "why not".to_owned();
    let command = Command::Keep { lease: "id-0".to_owned(), database: "app_gw0".to_owned(), reason };
    assert_eq!(press(&mut model, "kwhy not\n"), Some(command));
    assert_eq!(press(&mut model, "kxy\u{1b}"), None);
    assert_eq!(press(&mut model, "↓↓↓r"), None);
    assert_eq!(model.mode, Mode::Rows, "nothing to confirm");
    assert_eq!(model.outcome.as_ref().unwrap().0, "app_kept_9 is kept; `pgdibs release` drops it");
    assert_eq!(press(&mut model, "p"), Some(Command::Psql { database: "app_kept_9".to_owned() }));
}

#[test]
fn rows_are_sorted_and_filtered_and_selection_follows_its_row() {
    let mut model = model();
    press(&mut model, "↓");
    press(&mut model, "s");
    assert_eq!(databases(&model), ["app_gw2", "app_gw0", "app_gw1", "app_kept_9"], "held longest first");
    assert_eq!(model.selected(&model.rows()), Some(2), "still app_gw1");
    press(&mut model, "/CI-B\n");
    assert_eq!(databases(&model), ["app_gw2", "app_gw1"]);
    press(&mut model, "\u{1b}sss");
    assert_eq!(databases(&model)[0], "app_gw0", "most connections first");
    press(&mut model, "/nothing of that\n");
    assert_eq!((databases(&model).len(), press(&mut model, "r")), (0, None));
    assert_eq!(press(&mut model, "q"), Some(Command::Quit));
    assert_eq!(model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Command::Quit));
}

#[test]
fn screen_shows_state_slots_and_rows_at_any_size() {
    let model = model();
    let shown = screen(&model, 100, 20);
    for part in [
        "Ready  1 ready  3 leased  2 spare  0 waiting  1.0 GB",
        "3 leased, 1 ready",
        "app  L···",
        "app_gw0",
        "10 s",
        "7",
        "kept: test_x failed",
        "ci-a",
        "r release",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown}");
    for (width, height) in [(1, 1), (20, 3), (40, 8), (300, 100)] {
        screen(&model, width, height);
    }
    let mut lost = Model::new("http://h:1");
    lost.update(Err("no daemon answers at http://h:1".to_owned()));
    assert!(screen(&lost, 60, 8).contains("No answer  no daemon answers"), "{}", screen(&lost, 60, 8));
}
