//! What the bus keeps, and how readers follow it.

use std::sync::Arc;
use std::time::Duration;

use pgdibs_api::event as api;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::template::Timestamp;

use super::reader::Lagged;
use super::{Events, KEPT, Loss, Record};

fn numbered(number: u64) -> Event {
    Event::new(EventKind::RunAdmitted).with_run(&format!("r{number}"))
}

fn runs(records: &[Arc<Record>]) -> Vec<String> {
    records.iter().filter_map(|record| record.event()?.run.clone()).collect()
}

#[test]
fn ring_keeps_the_last_thousand_and_resumes_within_them() {
    let events = Arc::new(Events::of(7));
    assert_eq!(events.reader().last_id(), "7-0");
    let mut early = events.reader();
    for number in 1..=KEPT as u64 + 5 {
        events.publish(numbered(number));
    }
    assert_eq!((events.kept().len(), events.reader().last_id()), (KEPT, "7-1005".to_owned()));
    assert_eq!(early.take(1).unwrap_err(), Lagged, "its first five are gone");
    assert_eq!(runs(&early.take(2).unwrap()), ["r6", "r7"], "it goes on with the oldest");
    let resumed = |id: &str| events.reader_after(id).map(|mut reader| runs(&reader.take(1).unwrap()));
    assert_eq!(resumed("7-1004").unwrap(), ["r1005"]);
    assert_eq!(resumed("7-5").unwrap(), ["r6"]);
    assert_eq!(resumed("7-1005").unwrap(), Vec::<String>::new(), "nothing has happened since");
    for id in ["7-4", "7-1006", "8-1004", "7-", "-1004", "", "7-18446744073709551615", "x"] {
        assert_eq!(resumed(id), None, "{id}");
    }
    assert_eq!(runs(&events.reader_of_kept().take(1).unwrap()), ["r6"]);
}

#[tokio::test]
async fn reader_is_woken_by_the_next_event() {
    let events = Arc::new(Events::of(1));
    let mut reader = events.reader();
    let (woken, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), reader.wait()), async {
        tokio::task::yield_now().await;
        events.publish(numbered(1));
    });
    woken.unwrap();
    assert_eq!(runs(&reader.take(9).unwrap()), ["r1"]);
}

#[test]
fn frame_is_one_server_sent_event() {
    let events = Events::of(3);
    events.publish(numbered(1).because("two\nlines"));
    let record = events.kept().remove(0);
    let text = String::from_utf8(record.frame(3).to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["id: 3-1", "event: run_admitted"]);
    assert!(lines[2].starts_with("data: {\"at\":\"") && lines[2].contains(r#""reason":"two\nlines""#), "{text}");
    assert_eq!(lines[3..], [""]);
}

#[test]
fn events_of_another_daemon_get_a_number_and_are_not_sent_on() {
    let events = Events::of(3);
    let wire = api::Event::new(&numbered(1), Timestamp(0), 9);
    events.receive(wire.clone());
    events.receive(api::Event { kind: "of_a_newer_version".to_owned(), ..wire });
    events.receive_loss(Loss::Disconnected);
    let kept = events.kept();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|record| record.to_relay().is_none()));
    assert!(kept[0].event().is_some() && kept[1].loss() == Some(Loss::Disconnected));
    assert!(String::from_utf8(kept[0].frame(3).to_vec()).unwrap().contains(r#""daemon":"9""#));
}
