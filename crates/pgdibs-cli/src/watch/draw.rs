//! Draws the screen of `pgdibs status --watch` into a frame of any size.

use pgdibs::api::pool::Pool;
use pgdibs::api::status::Status;
use pgdibs::api::template::TemplateState;
use pgdibs_server::overview::{Level, SHORT, headline, waits_for};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row as TableRow, Table, TableState};

use super::model::{Mode, Model, Row, Sort};
use crate::table::{duration, plain, shortened, size};

/// So many waiters are listed.
const WAITERS: usize = 4;
/// So many lines of reasons.
const REASONS: usize = 5;
/// So many lines of slots of a pool.
const SLOT_LINES: usize = 3;
const HELP: &str = "\
up, down, PgUp, PgDn  select a database
r   release it: its holder loses it at once (asks first)
k   keep it for an hour once its lease ends (asks why)
p   open it in psql; leave psql to come back
s   sort by the next column
/   show what contains a text; Esc shows all
?   this help
q   quit";

/// Colours, unless the terminal or its user wants none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette(pub(super) bool);

impl Palette {
    fn of(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn level(self, level: Level) -> Style {
        self.of(match level {
            Level::Good => Color::Green,
            Level::Warning => Color::Yellow,
            Level::Bad => Color::Red,
        })
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let top = top(model, palette, usize::from(frame.area().width).max(20));
    // The rows and the last line are never pushed out.
    let height = u16::try_from(top.len()).unwrap_or(u16::MAX).min(frame.area().height.saturating_sub(4));
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(top), head);
    draw_rows(frame, model, palette, body);
    frame.render_widget(foot_line(model, palette), foot);
    if model.mode == Mode::Help {
        draw_help(frame);
    }
}

fn top<'a>(model: &Model, palette: Palette, width: usize) -> Vec<Line<'a>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    if let Some(error) = &model.error {
        lines.push(Line::from(vec![
            Span::styled("No answer  ", palette.of(Color::Red).patch(bold)),
            Span::raw(plain(error)),
        ]));
    }
    let Some(status) = &model.status else {
        if model.error.is_none() {
            lines.push(Line::raw(format!("waiting for {}", model.url)));
        }
        return lines;
    };
    let headline = headline(status);
    lines.push(Line::from(vec![
        Span::styled(format!("{}  ", headline.word), palette.level(headline.level).patch(bold)),
        Span::raw(figures(model, status)),
    ]));
    let why = headline.why.iter().flat_map(|why| why.lines());
    let why = why.flat_map(|why| textwrap::wrap(why, width - 2).into_iter().map(|line| format!("  {}", plain(&line))));
    lines.extend(why.take(REASONS).map(Line::raw));
    lines.extend(status.pools.iter().flat_map(|pool| pool_lines(pool, status, palette, width)));
    lines.extend(status.waiters.iter().take(WAITERS).map(|waiter| {
        let names = [waiter.worker.as_deref(), Some(waiter.holder.as_str()).filter(|name| !name.is_empty())];
        let who = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let text = format!(" waits {} for {}", duration(waiter.waited_seconds), waits_for(status, waiter));
        Line::from(vec![Span::styled(format!("  {}", plain(&who)), palette.of(Color::Yellow)), Span::raw(plain(&text))])
    }));
    if status.waiters.len() > WAITERS {
        lines.push(Line::raw(format!("  and {} more", status.waiters.len() - WAITERS)));
    }
    lines.extend(status.pools.iter().flat_map(|pool| troubles(pool, palette)));
    lines.push(Line::default());
    lines
}

fn figures(model: &Model, status: &Status) -> String {
    let sum = |count: fn(&Pool) -> u64| status.pools.iter().map(count).sum::<u64>();
    let disk = status.server.limits.free_disk_bytes.map_or_else(|| "?".to_owned(), size);
    format!(
        "{} ready  {} leased  {} spare  {} waiting  {disk} disk free  {}",
        sum(|pool| pool.counts.ready),
        sum(|pool| pool.counts.leased),
        sum(|pool| pool.counts.spare),
        sum(|pool| pool.counts.waiting),
        model.url,
    )
}

/// A pool with one character for each slot.
fn pool_lines<'a>(pool: &Pool, status: &Status, palette: Palette, width: usize) -> Vec<Line<'a>> {
    let mut slots = vec![('·', Color::DarkGray); usize::try_from(pool.max).unwrap_or_default()];
    for database in status.databases.iter().filter(|database| database.pool == pool.pool) {
        let slot = database.slot.and_then(|slot| usize::try_from(slot).ok());
        let Some(cell) = slot.and_then(|slot| slots.get_mut(slot)) else { continue };
        *cell = match database.state.as_str() {
            "leased" => ('L', Color::Blue),
            "ready" => ('r', Color::Green),
            "creating" => ('c', Color::Yellow),
            "retiring" => ('x', Color::DarkGray),
            "kept" => ('k', Color::Magenta),
            _ => ('B', Color::Red),
        };
    }
    let name = Span::raw(format!("{}  ", pool.pool));
    let cells: Vec<Span<'a>> =
        slots.into_iter().map(|(cell, colour)| Span::styled(cell.to_string(), palette.of(colour))).collect();
    if name.width() + cells.len() <= width {
        return vec![Line::from([vec![name], cells].concat())];
    }
    let rows = cells.chunks(width - 2).take(SLOT_LINES).map(|row| Line::from([&[Span::raw("  ")], row].concat()));
    std::iter::once(Line::from(name)).chain(rows).collect()
}

fn troubles<'a>(pool: &Pool, palette: Palette) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for template in &pool.templates {
        let name = format!("  template {} of {}", shortened(&plain(&template.fingerprint), SHORT), pool.pool);
        let last = template.detail.as_deref().and_then(|detail| detail.lines().next()).unwrap_or_default();
        match template.state {
            TemplateState::Failed => {
                lines.push(Line::styled(format!("{name} failed: {}", plain(last)), palette.of(Color::Red)));
            }
            TemplateState::Building => {
                lines.push(Line::raw(format!("{name} is being built by {}", plain(&template.holder))));
            }
            _ => {}
        }
    }
    lines.extend(pool.blocked.iter().map(|blocked| {
        let why = blocked.last_error.as_deref().or(blocked.reason.as_deref()).unwrap_or("no reason recorded");
        Line::styled(format!("  {} is blocked: {}", blocked.database, plain(why)), palette.of(Color::Red))
    }));
    lines
}

fn draw_rows(frame: &mut Frame<'_>, model: &Model, palette: Palette, area: Rect) {
    let rows = model.rows();
    let selected = model.selected(&rows);
    let all = columns(area.width, &rows);
    let header = all.iter().map(|column| match column.sort {
        Some(sort) if sort == model.sort => format!("{}▾", column.name),
        _ => column.name.to_owned(),
    });
    let table = Table::new(
        rows.iter().map(|row| TableRow::new(all.iter().map(|column| (column.cell)(row)))),
        all.iter().map(|column| column.width),
    )
    .header(TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
    .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
    if rows.is_empty() && model.status.is_some() && area.height > 1 {
        let below = Rect { y: area.y + 1, height: 1, ..area };
        let text = if model.filter.is_empty() { "no database is leased or kept" } else { "nothing matches the filter" };
        frame.render_widget(Paragraph::new(text).style(palette.of(Color::DarkGray)), below);
    }
}

struct Column {
    name: &'static str,
    sort: Option<Sort>,
    width: Constraint,
    cell: fn(&Row) -> String,
}

/// The columns that a terminal of this width has room for.
fn columns(width: u16, rows: &[Row]) -> Vec<Column> {
    let of = |name, sort, width, cell| Column { name, sort, width: Constraint::Length(width), cell };
    let database = rows.iter().map(|row| row.database.chars().count()).max().unwrap_or_default().clamp(9, 48);
    let database = u16::try_from(database).unwrap_or(u16::MAX);
    let mut columns = vec![of("DATABASE", Some(Sort::Database), database, |row| row.database.clone())];
    if width >= 70 {
        columns.push(of("WORKER", None, 8, |row| row.worker.clone()));
    }
    if width >= 100 {
        columns.push(of("RUN", None, 13, |row| shortened(&row.run, SHORT)));
    }
    columns.push(of("HELD FOR", Some(Sort::Held), 11, |row| time(row.held_seconds)));
    if width >= 70 {
        columns.push(of("ENDS IN", Some(Sort::Expires), 12, |row| time(row.left_seconds)));
    }
    if width >= 100 {
        let count = |row: &Row| row.connections.map_or_else(String::new, |count| count.to_string());
        columns.push(of("CONN", Some(Sort::Connections), 5, count));
    }
    let holder = |row: &Row| format!("{}{}", if row.lease.is_none() { "kept: " } else { "" }, row.holder);
    columns.push(Column { name: "HOLDER", sort: Some(Sort::Holder), width: Constraint::Fill(1), cell: holder });
    columns
}

#[allow(clippy::cast_precision_loss, reason = "an age for people")]
fn time(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| duration(seconds as f64))
}

fn foot_line<'a>(model: &Model, palette: Palette) -> Line<'a> {
    let prompt = palette.of(Color::Yellow).add_modifier(Modifier::BOLD);
    match (&model.mode, &model.outcome) {
        (Mode::Release(row), _) => {
            let holder = if row.holder.is_empty() { "its holder" } else { &row.holder };
            Line::styled(
                format!("release {}? {holder} loses it at once. y releases, any other key does not", row.database),
                prompt,
            )
        }
        (Mode::Keep(row, reason), _) => Line::styled(
            format!("keep {} for an hour; why: {reason}▏  Enter keeps, Esc does not", row.database),
            prompt,
        ),
        (Mode::Filter, _) => Line::styled(format!("/{}▏  Enter keeps the filter, Esc shows all", model.filter), prompt),
        (_, Some((text, failed))) => {
            Line::styled(plain(text), palette.of(if *failed { Color::Red } else { Color::Green }))
        }
        _ if !model.filter.is_empty() => {
            Line::raw(format!("rows with \"{}\" · Esc shows all · ? help · q quit", model.filter))
        }
        _ => Line::raw("r release · k keep · p psql · s sort · / filter · ? help · q quit"),
    }
}

fn draw_help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (area.width.min(64), area.height.min(10));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" any key closes ")), place);
}
