//! What the screen of `pgdibs status --watch` shows, and what each key does to it. It knows no terminal.

use pgdibs::api::database::DatabaseState;
use pgdibs::api::status::Status;
use pgdibs::api::time::seconds_between;
use pgdibs_server::overview::{connections, live_leases};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::table::plain;

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Release { lease: String, database: String },
    Keep { lease: String, database: String, reason: String },
    Psql { database: String },
}

/// What the keys mean at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Rows,
    Help,
    /// The text of the filter is being typed.
    Filter,
    /// The user is asked whether to release this row.
    Release(Row),
    /// The reason to keep this row is being typed.
    Keep(Row, String),
}

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Database,
    Held,
    Expires,
    Holder,
    Connections,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Database, Self::Held, Self::Expires, Self::Holder, Self::Connections];

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// A leased or kept database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Row {
    pub(super) database: String,
    /// The id of its lease; `None` of a kept database.
    pub(super) lease: Option<String>,
    pub(super) worker: String,
    pub(super) run: String,
    /// Who holds it, or why it is kept.
    pub(super) holder: String,
    pub(super) held_seconds: Option<u64>,
    pub(super) left_seconds: Option<u64>,
    pub(super) connections: Option<u32>,
}

/// The state of the screen.
pub(super) struct Model {
    pub(super) url: String,
    pub(super) status: Option<Status>,
    /// Why the last request for the status failed.
    pub(super) error: Option<String>,
    pub(super) mode: Mode,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// What the last command came to, and whether it failed.
    pub(super) outcome: Option<(String, bool)>,
    /// The name of the selected row's database: rows move.
    selected: Option<String>,
}

impl Model {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            status: None,
            error: None,
            mode: Mode::Rows,
            sort: Sort::Database,
            filter: String::new(),
            outcome: None,
            selected: None,
        }
    }

    /// A status has arrived, or the reason why there is none.
    pub(super) fn update(&mut self, status: Result<Status, String>) {
        match status {
            Ok(status) => (self.status, self.error) = (Some(status), None),
            Err(error) => self.error = Some(error),
        }
    }

    /// The leased and kept databases that match the filter, in order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(status) = &self.status else { return Vec::new() };
        let mut rows = rows(status);
        let filter = self.filter.to_lowercase();
        rows.retain(|row| {
            [&row.database, &row.worker, &row.run, &row.holder].iter().any(|text| text.to_lowercase().contains(&filter))
        });
        match self.sort {
            // As they come: leases by pool and slot, then kept databases.
            Sort::Database => {}
            Sort::Held => rows.sort_by_key(|row| std::cmp::Reverse(row.held_seconds)),
            Sort::Expires => rows.sort_by_key(|row| row.left_seconds),
            Sort::Holder => rows.sort_by(|a, b| a.holder.cmp(&b.holder)),
            Sort::Connections => rows.sort_by_key(|row| std::cmp::Reverse(row.connections)),
        }
        rows
    }

    /// The place of the selected row; the first row when it is gone.
    pub(super) fn selected(&self, rows: &[Row]) -> Option<usize> {
        let found = rows.iter().position(|row| Some(&row.database) == self.selected.as_ref());
        found.or(if rows.is_empty() { None } else { Some(0) })
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Command> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Command::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Rows) {
            Mode::Rows => self.key_in_rows(key.code),
            Mode::Help => None,
            Mode::Filter => {
                match key.code {
                    KeyCode::Enter => return None,
                    KeyCode::Esc => {
                        self.filter.clear();
                        return None;
                    }
                    code => edit(&mut self.filter, code),
                }
                self.mode = Mode::Filter;
                None
            }
            Mode::Release(row) => match (key.code, row.lease) {
                (KeyCode::Char('y' | 'Y'), Some(lease)) => Some(Command::Release { lease, database: row.database }),
                _ => self.note_outcome("nothing was released", false),
            },
            Mode::Keep(row, mut reason) => match (key.code, row.lease.clone()) {
                (KeyCode::Esc, _) => self.note_outcome("nothing is kept", false),
                (KeyCode::Enter, Some(lease)) => Some(Command::Keep { lease, database: row.database, reason }),
                (code, _) => {
                    edit(&mut reason, code);
                    self.mode = Mode::Keep(row, reason);
                    None
                }
            },
        }
    }

    fn key_in_rows(&mut self, code: KeyCode) -> Option<Command> {
        self.outcome = None;
        let rows = self.rows();
        let at = self.selected(&rows);
        match code {
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Down | KeyCode::Char('j') => self.select(&rows, at.map(|at| at + 1)),
            KeyCode::Up => self.select(&rows, at.map(|at| at.saturating_sub(1))),
            KeyCode::PageDown => self.select(&rows, at.map(|at| at + 10)),
            KeyCode::PageUp => self.select(&rows, at.map(|at| at.saturating_sub(10))),
            KeyCode::Home => self.select(&rows, Some(0)),
            KeyCode::End => self.select(&rows, Some(usize::MAX)),
            KeyCode::Char(key @ ('r' | 'k' | 'p')) => {
                let Some(row) = at.and_then(|at| rows.get(at)).cloned() else {
                    return self.note_outcome("no database is leased or kept", true);
                };
                // The question names this row, also when others come before it meanwhile.
                self.selected = Some(row.database.clone());
                match key {
                    'p' => return Some(Command::Psql { database: row.database }),
                    _ if row.lease.is_none() => {
                        return self
                            .note_outcome(&format!("{} is kept; `pgdibs release` drops it", row.database), true);
                    }
                    'r' => self.mode = Mode::Release(row),
                    _ => self.mode = Mode::Keep(row, String::new()),
                }
            }
            _ => {}
        }
        None
    }

    fn select(&mut self, rows: &[Row], at: Option<usize>) {
        let row = at.and_then(|at| rows.get(at.min(rows.len().saturating_sub(1))));
        self.selected = row.map(|row| row.database.clone());
    }

    fn note_outcome(&mut self, text: &str, failed: bool) -> Option<Command> {
        self.outcome = Some((text.to_owned(), failed));
        None
    }
}

fn edit(text: &mut String, code: KeyCode) {
    match code {
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(c) if text.chars().count() < 200 => text.push(c),
        _ => {}
    }
}

fn rows(status: &Status) -> Vec<Row> {
    let now = status.taken_at.as_str();
    let seconds = |from: &str, to: &str| Some(whole_seconds(seconds_between(from, to)?));
    let connections = connections(status);
    let leased = live_leases(status).into_iter().map(|lease| Row {
        database: lease.database.clone(),
        lease: Some(lease.id.clone()),
        worker: plain(lease.worker.as_deref().unwrap_or_default()),
        run: plain(lease.run.as_deref().unwrap_or_default()),
        holder: plain(&lease.holder),
        held_seconds: seconds(&lease.acquired_at, now),
        left_seconds: seconds(now, &lease.expires_at),
        connections: connections.get(lease.id.as_str()).copied(),
    });
    let kept = status.databases.iter().filter(|one| one.state == DatabaseState::Kept).map(|one| Row {
        database: one.database.clone(),
        holder: plain(one.reason.as_deref().unwrap_or_default()),
        left_seconds: one.kept_until.as_deref().and_then(|until| seconds(now, until)),
        connections: one.sessions,
        ..Row::default()
    });
    leased.chain(kept).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an age for people")]
fn whole_seconds(seconds: f64) -> u64 {
    seconds.max(0.0) as u64
}
