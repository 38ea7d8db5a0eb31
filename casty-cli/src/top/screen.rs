//! The screen of `casty top`.

use std::{future::pending, io, pin::Pin, thread, time::Duration};

use casty::admin::{Admin, AdminError, Finding, Overview, Severity};
use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Table, Wrap},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use super::rows::{self, Rows, Sorting};
use crate::stored;

/// Why the screen ended that should go on.
#[derive(Debug)]
pub(super) enum Ended {
    /// Before there was anything to show.
    Admin(AdminError),
    Terminal(io::Error),
}

/// What the screen shows.
#[derive(Debug, Default)]
struct Shown {
    before: Option<Overview>,
    now: Option<Overview>,
    /// Why the last look has failed, if it has.
    failed: Option<String>,
    sorting: Sorting,
}

impl Shown {
    fn looked(&mut self, looked: Result<Overview, AdminError>) {
        match looked {
            Ok(overview) => {
                self.before = self.now.replace(overview);
                self.failed = None;
            }
            Err(error) => self.failed = Some(error.to_string()),
        }
    }
}

/// A look that is under way.
type Look<'a> = Pin<Box<dyn Future<Output = Result<Overview, AdminError>> + 'a>>;

/// Shows what there is until the user ends it.
pub(super) async fn run(admin: &Admin, every: Duration) -> Result<(), Ended> {
    let mut shown = Shown::default();
    let first = admin.overview().await.map_err(Ended::Admin)?;
    shown.looked(Ok(first));
    let mut keys = keys();
    let mut terminal = ratatui::try_init().map_err(Ended::Terminal)?;
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.reset_at(Instant::now() + every);
    // A node that does not answer takes its time, and keys are heeded meanwhile.
    let mut looking: Option<Look<'_>> = None;
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &shown)) {
            break Err(error);
        }
        let is_looking = looking.is_some();
        let looked = async {
            match &mut looking {
                Some(looking) => looking.await,
                None => pending().await,
            }
        };
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Quit) | None => break Ok(()),
                Some(Key::Sort) => shown.sorting = shown.sorting.next(),
                Some(Key::Redraw) => {}
            },
            looked = looked => {
                looking = None;
                shown.looked(looked);
            }
            _ = looks.tick(), if !is_looking => {
                looking = Some(Box::pin(admin.overview()));
            }
        }
    };
    let restored = ratatui::try_restore();
    ended.and(restored).map_err(Ended::Terminal)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Quit,
    Sort,
    Redraw,
}

/// The user's keys. The terminal is read by a thread, which ends with the program.
fn keys() -> mpsc::Receiver<Key> {
    let (send, keys) = mpsc::channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(key) = key(&event)
                && send.blocking_send(key).is_err()
            {
                return;
            }
        }
    });
    keys
}

fn key(event: &Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            KeyCode::Char('s') => Some(Key::Sort),
            _ => None,
        },
        _ => None,
    }
}

fn draw(frame: &mut Frame<'_>, shown: &Shown) {
    let Some(now) = &shown.now else { return };
    let rows = Rows::new(now, shown.before.as_ref(), shown.sorting);
    let findings = now.findings(shown.before.as_ref());
    let lines = findings.len() * 2;
    let rest = frame.area().height.saturating_sub(1);
    // The entities get what the others leave; those get no more than their rows and a third.
    let of = |rows: usize| {
        let wanted = u16::try_from(rows + 3).unwrap_or(u16::MAX);
        Constraint::Length(wanted.min(rest / 3))
    };
    let findings_height = Constraint::Length(
        u16::try_from(lines.max(1) + 2)
            .unwrap_or(u16::MAX)
            .min(rest / 3),
    );
    let [head, nodes, types, entities, found] = Layout::vertical([
        Constraint::Length(1),
        of(rows.nodes.len()),
        of(rows.types.len()),
        Constraint::Min(3),
        findings_height,
    ])
    .areas(frame.area());
    frame.render_widget(heading(shown), head);
    table(frame, nodes, "nodes", &rows::NODE, &rows.nodes);
    table(frame, types, "entity types", &rows::TYPE, &rows.types);
    let title = format!("entities by {}", shown.sorting.name());
    table(frame, entities, &title, &rows::ENTITY, &rows.entities);
    let paragraph = Paragraph::new(told(&findings))
        .wrap(Wrap { trim: false })
        .block(Block::bordered().title(" findings "));
    frame.render_widget(paragraph, found);
}

fn heading(shown: &Shown) -> Line<'_> {
    let keys = " casty top   q ends   s sorts the entities ";
    let mut heading = vec![Span::styled(keys, Modifier::REVERSED)];
    if let Some(reason) = &shown.failed {
        let reason = format!(" not up to date: {}", stored::shown(reason));
        heading.push(Span::styled(reason, Color::Red));
    }
    heading.into()
}

fn told(findings: &[Finding]) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for finding in findings {
        let color = match finding.severity {
            Severity::Alarm => Color::Red,
            Severity::Warning => Color::Yellow,
            _ => Color::Blue,
        };
        let style = Style::new().fg(color).add_modifier(Modifier::BOLD);
        lines.push(Line::from(vec![
            Span::styled(format!("{} ", rows::word(finding.severity)), style),
            Span::raw(stored::shown(&finding.cause)),
        ]));
        let cure = format!("  {}", stored::shown(&finding.cure));
        lines.push(Line::styled(cure, Modifier::DIM));
    }
    if lines.is_empty() {
        lines.push(Line::styled(
            "nothing is found that is not as it should be",
            Color::Green,
        ));
    }
    lines
}

fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    heads: &[&str; N],
    rows: &[[String; N]],
) {
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.max().unwrap_or(0).max(heads[at].chars().count())
    });
    let widths = widths.map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
    let heads = Row::new(heads.iter().copied()).style(Modifier::BOLD);
    let rows = rows
        .iter()
        .map(|row| Row::new(row.iter().map(String::as_str)));
    let table = Table::new(rows, widths)
        .header(heads)
        .column_spacing(2)
        .block(Block::bordered().title(format!(" {title} ")));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use ratatui::{
        Terminal,
        backend::TestBackend,
        crossterm::event::{KeyEvent, KeyEventState},
    };

    use super::*;

    fn pressed(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
        key(&Event::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press,
            state: KeyEventState::NONE,
        }))
    }

    #[test]
    fn keys_are_understood() {
        let none = KeyModifiers::NONE;
        assert_eq!(pressed(KeyCode::Char('q'), none), Some(Key::Quit));
        assert_eq!(pressed(KeyCode::Esc, none), Some(Key::Quit));
        let control = KeyModifiers::CONTROL;
        assert_eq!(pressed(KeyCode::Char('c'), control), Some(Key::Quit));
        assert_eq!(pressed(KeyCode::Char('c'), none), None);
        assert_eq!(pressed(KeyCode::Char('s'), none), Some(Key::Sort));
        assert_eq!(key(&Event::Resize(80, 24)), Some(Key::Redraw));
    }

    #[test]
    fn what_was_seen_stays_on_the_screen_while_no_node_answers() {
        let mut shown = Shown::default();
        shown.looked(Ok(Overview::default()));
        shown.looked(Err(AdminError::NoNodes));
        let mut terminal = Terminal::new(TestBackend::new(100, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &shown)).unwrap();
        let screen = terminal.backend().to_string();
        for part in [
            "casty top",
            "not up to date",
            "entities by queue",
            "nodes",
            "No node leads",
        ] {
            assert!(screen.contains(part), "{part}: {screen}");
        }
    }
}
