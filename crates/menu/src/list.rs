//! The menu itself.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

use crate::{COLUMNS, Key, ROWS, edit::Line, plain};

/// Rows above the list: the heading, and a warning or an empty one.
const ABOVE: usize = 2;
/// Rows below it: an empty one, three of the item's, an empty one, the help.
const BELOW: usize = 6;
/// Rows of the list at most.
const WINDOW: usize = ROWS - ABOVE - BELOW;

/// One thing to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is in the list.
    pub title: String,
    /// More about it, shown below the list: where it comes from.
    pub detail: String,
    /// Its command line, if there is one to edit.
    pub command_line: Option<String>,
    /// Why it cannot be started.
    pub problem: Option<String>,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The item of this number, with its command line changed to this if it
    /// was.
    Start(usize, Option<String>),
    /// A prompt.
    Prompt,
}

/// What comes of a key or a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// For the terminal.
    pub screen: String,
    /// The end of the menu, if it is.
    pub answer: Option<Answer>,
}

impl Step {
    const fn shows(screen: String) -> Self {
        Self {
            screen,
            answer: None,
        }
    }
}

/// A menu.
#[derive(Clone, Debug)]
pub struct Menu {
    heading: String,
    /// What somebody should know before an item starts by itself.
    warning: String,
    items: Vec<Item>,
    chosen: usize,
    /// Seconds until the chosen one starts by itself.
    left: Option<u32>,
    /// Whether a key was pressed.
    touched: bool,
    edited: Option<Line>,
    /// The first item that is seen.
    top: usize,
}

impl Menu {
    /// A menu of items; the one of number `chosen` starts after `timeout`
    /// seconds, or never by itself.
    #[must_use]
    pub fn new(heading: &str, items: Vec<Item>, chosen: usize, timeout: Option<u32>) -> Self {
        Self {
            heading: heading.into(),
            warning: String::new(),
            chosen: chosen.min(items.len().saturating_sub(1)),
            items,
            left: timeout,
            touched: false,
            edited: None,
            top: 0,
        }
    }

    /// The same, with a warning below the heading.
    #[must_use]
    pub fn with_warning(mut self, warning: &str) -> Self {
        self.warning = warning.into();
        self
    }

    /// The first screen.
    pub fn open(&mut self) -> String {
        format!("\x1b[0m\x1b[?25l\x1b[2J{}", self.draw())
    }

    /// What to print when the menu is left: the terminal as it was found.
    #[must_use]
    pub fn close() -> &'static str {
        "\x1b[0m\x1b[?25h\x1b[2J\x1b[H"
    }

    /// A second has gone by.
    pub fn tick(&mut self) -> Step {
        match &mut self.left {
            None => return Step::shows(String::new()),
            Some(left) => *left = left.saturating_sub(1),
        }
        if self.left == Some(0) {
            self.left = None;
            return Step {
                screen: self.draw(),
                answer: self.start(None),
            };
        }
        Step::shows(self.draw())
    }

    /// Whether an item will start by itself.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.left.is_some()
    }

    /// Whether somebody has pressed a key: what starts was chosen by a person.
    #[must_use]
    pub const fn touched(&self) -> bool {
        self.touched
    }

    /// A key was pressed. Any key stops the count.
    pub fn key(&mut self, key: Key) -> Step {
        self.left = None;
        self.touched = true;
        if let Some(mut line) = self.edited.take() {
            match key {
                Key::Enter => {
                    return Step {
                        screen: self.draw(),
                        answer: self.start(Some(line.text())),
                    };
                }
                Key::Escape => {}
                key => {
                    line.key(key);
                    self.edited = Some(line);
                }
            }
            return Step::shows(self.draw());
        }
        let last = self.items.len().saturating_sub(1);
        match key {
            Key::Up | Key::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            Key::Down | Key::Char('j') => self.chosen = self.chosen.saturating_add(1).min(last),
            Key::PageUp => self.chosen = self.chosen.saturating_sub(WINDOW),
            Key::PageDown => self.chosen = self.chosen.saturating_add(WINDOW).min(last),
            Key::Home => self.chosen = 0,
            Key::End => self.chosen = last,
            Key::Redraw => return Step::shows(self.open()),
            Key::Char('c') | Key::Escape => {
                return Step {
                    screen: String::new(),
                    answer: Some(Answer::Prompt),
                };
            }
            Key::Char('e') => {
                let line = self.item().and_then(|item| item.command_line.as_deref());
                self.edited = line.map(Line::new);
            }
            Key::Enter => {
                return Step {
                    screen: self.draw(),
                    answer: self.start(None),
                };
            }
            _ => {}
        }
        Step::shows(self.draw())
    }

    fn item(&self) -> Option<&Item> {
        self.items.get(self.chosen)
    }

    /// The chosen one, unless it cannot be started.
    fn start(&self, command_line: Option<String>) -> Option<Answer> {
        let item = self.item().filter(|item| item.problem.is_none())?;
        let changed = command_line.filter(|line| item.command_line.as_ref() != Some(line));
        Some(Answer::Start(self.chosen, changed))
    }

    /// The whole screen, line by line: a terminal that joins late has it after
    /// one key.
    fn draw(&mut self) -> String {
        if self.chosen < self.top {
            self.top = self.chosen;
        }
        let bottom = self.top.saturating_add(WINDOW).saturating_sub(1);
        if self.chosen > bottom {
            self.top = self.chosen.saturating_sub(WINDOW).saturating_add(1);
        }
        let mut screen = String::from("\x1b[?25l\x1b[H");
        line(&mut screen, &plain(&self.heading, COLUMNS));
        line(&mut screen, &plain(&self.warning, COLUMNS));
        for n in 0..WINDOW {
            let number = self.top.saturating_add(n);
            let Some(item) = self.items.get(number) else {
                line(&mut screen, "");
                continue;
            };
            let mark = if item.problem.is_some() { '!' } else { ' ' };
            let title = plain(&item.title, COLUMNS - 6);
            let text = format!(" {mark} {title:width$} ", width = COLUMNS - 6);
            if number == self.chosen {
                line(&mut screen, &format!("\x1b[7m{text}\x1b[0m"));
            } else {
                line(&mut screen, text.trim_end());
            }
        }
        self.draw_item(&mut screen);
        screen
    }

    /// What is below the list.
    fn draw_item(&self, screen: &mut String) {
        line(screen, "");
        let Some(item) = self.item() else {
            line(screen, " nothing can be started");
            line(screen, "");
            line(screen, "");
            line(screen, "");
            let _ = write!(screen, " c prompt\x1b[K");
            return;
        };
        let below = item.problem.as_ref().map_or_else(
            || plain(&item.detail, COLUMNS - 1),
            |problem| format!("! {}", plain(problem, COLUMNS - 3)),
        );
        line(screen, &format!(" {below}"));
        let mut cursor = None;
        if let Some(edited) = &self.edited {
            let (text, column) = edited.window(COLUMNS - 3);
            line(screen, &format!(" >{text}"));
            cursor = Some(column.saturating_add(3));
        } else {
            let text = item.command_line.as_deref().unwrap_or_default();
            line(screen, &format!("  {}", plain(text, COLUMNS - 3)));
        }
        line(screen, "");
        let help = if self.edited.is_some() {
            "Enter start with this command line   Esc back"
        } else {
            "Up, Down choose   Enter start   e edit the command line   c prompt"
        };
        match self.left {
            Some(left) => line(screen, &format!(" starts in {left} s; any key stops that")),
            None => line(screen, ""),
        }
        let _ = write!(screen, " {help}\x1b[K");
        if let Some(column) = cursor {
            let row = ABOVE + WINDOW + 3;
            let _ = write!(screen, "\x1b[{row};{column}H\x1b[?25h");
        }
    }
}

/// A line of the screen, and what was there before erased.
fn line(screen: &mut String, text: &str) {
    screen.push_str(text);
    screen.push_str("\x1b[K\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(title: &str) -> Item {
        Item {
            title: title.into(),
            detail: format!("of {title}"),
            command_line: Some("root=/dev/xvda1 ro".into()),
            problem: None,
        }
    }

    fn menu(count: usize, timeout: Option<u32>) -> Menu {
        let items = (0..count).map(|n| item(&format!("entry {n}"))).collect();
        Menu::new("Kexen", items, 1, timeout)
    }

    #[test]
    fn the_default_starts_when_its_time_has_come() {
        let mut menu = menu(3, Some(2));
        assert!(menu.open().contains("starts in 2 s"));
        assert_eq!(menu.tick().answer, None);
        assert_eq!(menu.tick().answer, Some(Answer::Start(1, None)));
        assert!(!menu.counts() && !menu.touched());
    }

    #[test]
    fn a_warning_is_there_from_the_first_screen_on() {
        let text = "warning: the default may be another\x1b[2J";
        let mut menu = menu(3, Some(2)).with_warning(text);
        let want = "Kexen\x1b[K\r\nwarning: the default may be another?[2J\x1b[K\r\n";
        assert!(menu.open().contains(want));
        assert!(menu.tick().screen.contains(want));
    }

    #[test]
    fn a_key_stops_the_count() {
        let mut menu = menu(3, Some(1));
        menu.key(Key::Down);
        assert!(menu.touched());
        assert_eq!(menu.tick().answer, None);
        assert_eq!(menu.key(Key::Enter).answer, Some(Answer::Start(2, None)));
    }

    #[test]
    fn a_command_line_is_edited_and_only_a_change_is_told() {
        let mut menu = menu(2, None);
        let _ = menu.key(Key::Char('e'));
        assert_eq!(menu.key(Key::Enter).answer, Some(Answer::Start(1, None)));
        let _ = menu.key(Key::Char('e'));
        let shown = menu.key(Key::Char('!')).screen;
        assert!(shown.contains(">root=/dev/xvda1 ro!"));
        let changed = Some(String::from("root=/dev/xvda1 ro!"));
        assert_eq!(menu.key(Key::Enter).answer, Some(Answer::Start(1, changed)));
        let _ = menu.key(Key::Char('e'));
        assert_eq!(menu.key(Key::Escape).answer, None);
        assert_eq!(menu.key(Key::Escape).answer, Some(Answer::Prompt));
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let mut bad = item("broken");
        bad.problem = Some("grub.cfg, line 7: no command chainloader".into());
        let mut menu = Menu::new("Kexen", [bad, item("fine")].into(), 0, None);
        assert!(menu.open().contains("! grub.cfg, line 7"));
        assert_eq!(menu.key(Key::Enter).answer, None);
        let _ = menu.key(Key::Down);
        assert_eq!(menu.key(Key::Enter).answer, Some(Answer::Start(1, None)));
    }

    #[test]
    fn titles_do_not_speak_to_the_terminal() {
        let mut menu = Menu::new(
            "a\x1b[2J",
            [item("\x1b]0;x\x07\r\n\u{9b}5A")].into(),
            0,
            None,
        );
        let screen = menu.open();
        assert!(screen.contains("?]0;x??"));
        assert!(!screen.contains('\u{9b}') && !screen.contains('\x07'));
    }

    #[test]
    fn a_long_list_scrolls() {
        let mut menu = menu(100, None);
        assert!(menu.key(Key::End).screen.contains("entry 99"));
        assert!(menu.key(Key::PageUp).screen.contains("entry 83"));
        assert!(menu.key(Key::Home).screen.contains("entry 0"));
    }

    proptest! {
        #[test]
        fn no_key_breaks_it(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            count in 0..40_usize,
        ) {
            let mut menu = menu(count, Some(5));
            let mut keys = crate::Keys::default();
            for byte in bytes {
                let Some(key) = keys.byte(byte) else { continue };
                let step = menu.key(key);
                if let Some(Answer::Start(n, _)) = step.answer {
                    prop_assert!(n < count);
                }
                prop_assert!(step.screen.matches("\r\n").count() < ROWS);
            }
        }
    }
}
