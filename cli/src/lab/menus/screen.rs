//! What the emulator shows: the little of a VT100 that GRUB's terminal uses,
//! and its text menu on it.
//!
//! The menu is a frame of light lines; in it an entry a line, the chosen one with
//! a `*` before it; below it what keys do, and the seconds left. It is drawn from
//! top to bottom: it is whole when the cursor goes back up behind that line.

/// How large a screen is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// A longer menu is scrolled.
    pub(crate) rows: usize,
    /// A longer title is cut.
    pub(crate) columns: usize,
}

impl Size {
    /// For menus as people have them.
    pub(crate) const LARGE: Self = Self {
        rows: 90,
        columns: 400,
    };
    /// For short ones: each character is a system call of the emulator's.
    pub(crate) const SMALL: Self = Self {
        rows: 24,
        columns: 80,
    };

    /// Whether all entries are shown at once and titles whole: GRUB's geometry, and
    /// lines that say what keys do.
    pub(super) fn fits(self, menu: &Shown) -> bool {
        let longest = menu.titles.iter().map(|title| title.chars().count()).max();
        menu.titles.len() < self.rows.saturating_sub(13)
            && longest.unwrap_or_default() < self.columns.saturating_sub(8)
    }
}

/// A screen.
#[derive(Debug)]
pub(super) struct Screen {
    size: Size,
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Bytes of a sequence or character that has not come whole.
    pending: Vec<u8>,
    /// Text that was written, without what moves the cursor, since it was last
    /// taken.
    pub(super) text: String,
    /// Whether all was cleared since keys were pressed. What is drawn before that
    /// is the menu in which they were.
    cleared: bool,
    /// Whether the line of the seconds was gone to.
    below: bool,
    /// Whether a menu was drawn to its end since that was last asked.
    drawn: bool,
}

/// A menu on the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) titles: Vec<String>,
    /// Which one is chosen.
    pub(super) chosen: usize,
    /// Seconds until it is started.
    pub(super) seconds: Option<u32>,
}

impl Screen {
    pub(super) fn new(size: Size) -> Self {
        Self {
            size,
            cells: vec![vec![' '; size.columns]; size.rows],
            row: 0,
            column: 0,
            pending: Vec::new(),
            text: String::new(),
            cleared: false,
            below: false,
            drawn: false,
        }
    }

    /// Forgets what was written: keys are pressed.
    pub(super) fn start(&mut self) {
        self.text.clear();
        self.cleared = false;
        self.drawn = false;
    }

    /// Takes in what was written.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pending.push(*byte);
            if self.step() {
                self.pending.clear();
            }
        }
    }

    /// Whether a menu was drawn to its end, since the last time.
    pub(super) fn was_drawn(&mut self) -> bool {
        std::mem::take(&mut self.drawn)
    }

    /// Acts on the pending bytes, if they are whole.
    fn step(&mut self) -> bool {
        match self.pending.as_slice() {
            [0x1b] => false,
            [0x1b, b'[', parameters @ .., last] if last.is_ascii_alphabetic() => {
                let text = String::from_utf8_lossy(parameters).into_owned();
                self.control(&text, *last);
                true
            }
            [0x1b, b'[', ..] => false,
            [0x1b, ..] => true,
            [b'\r'] => {
                self.column = 0;
                true
            }
            [b'\n'] => {
                self.text.push('\n');
                self.down();
                true
            }
            [8] => {
                self.column = self.column.saturating_sub(1);
                true
            }
            [control] if *control < 0x20 => true,
            bytes => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    let text = text.to_owned();
                    text.chars().for_each(|c| self.put(c));
                    true
                }
                // What is no text does not come whole in four bytes.
                Err(_) => bytes.len() >= 4,
            },
        }
    }

    fn put(&mut self, c: char) {
        self.text.push(c);
        if self.column == self.size.columns {
            self.column = 0;
            self.down();
        }
        if let Some(cell) = self
            .cells
            .get_mut(self.row)
            .and_then(|row| row.get_mut(self.column))
        {
            *cell = c;
        }
        self.column += 1;
    }

    fn down(&mut self) {
        if self.row + 1 < self.size.rows {
            self.row += 1;
        } else {
            self.cells.remove(0);
            self.cells.push(vec![' '; self.size.columns]);
        }
    }

    fn control(&mut self, parameters: &str, command: u8) {
        match command {
            b'H' => {
                let mut numbers = parameters.split(';').map(|text| text.parse().unwrap_or(1));
                let mut next = || numbers.next().unwrap_or(1_usize).saturating_sub(1);
                (self.row, self.column) = (
                    next().min(self.size.rows - 1),
                    next().min(self.size.columns - 1),
                );
                // GRUB's `timeout_y`: two lines for it, and an empty one.
                if (self.row, self.column) == (self.size.rows - 3, 0) {
                    self.below = true;
                } else if self.below && self.row < self.size.rows - 3 {
                    self.below = false;
                    self.drawn = self.cleared;
                }
            }
            b'J' => {
                self.cells = vec![vec![' '; self.size.columns]; self.size.rows];
                self.below = false;
                self.drawn = false;
                self.cleared = true;
            }
            _ => {}
        }
    }

    fn line(&self, row: usize) -> String {
        self.cells.get(row).into_iter().flatten().collect()
    }

    /// The menu that is shown.
    pub(super) fn menu(&self) -> Option<Shown> {
        let first =
            (0..self.size.rows).find(|row| self.line(*row).trim_start().starts_with('┏'))?;
        let mut shown = Shown::default();
        for row in first + 1..self.size.rows {
            let line = self.line(row);
            let Some(inside) = line.trim_start().strip_prefix('┃') else {
                break;
            };
            // Behind the frame there may be arrows.
            let inside = inside.split('┃').next().unwrap_or_default().trim_end();
            if inside.is_empty() {
                break;
            }
            let title = inside.strip_prefix(['*', ' ']).unwrap_or(inside);
            if inside.starts_with('*') {
                shown.chosen = shown.titles.len();
            }
            shown.titles.push(title.to_owned());
        }
        shown.seconds = (first..self.size.rows).find_map(|row| {
            let line = self.line(row);
            let (_, rest) = line.split_once("executed automatically in ")?;
            rest.split_once('s')?.0.parse().ok()
        });
        Some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_menu_is_read_when_it_is_whole() {
        let mut screen = Screen::new(Size::LARGE);
        let bar = "━".repeat(20);
        screen.feed(format!("\x1b[H\x1b[J\x1b[4;2H┏{bar}┓\x1b[5;2H┃\x1b[5;23H┃").as_bytes());
        screen.feed(format!("\x1b[6;2H┃\x1b[6;23H┃\x1b[7;2H┗{bar}┛").as_bytes());
        screen.feed("\x1b[5;3H A  ü \x1b[6;3H\x1b[30m*B\x1b[37m".as_bytes());
        assert!(!screen.was_drawn());
        let below = Size::LARGE.rows - 2;
        screen.feed(
            format!(
                "\x1b[{below};1H   The highlighted entry will be executed automatically in 7s."
            )
            .as_bytes(),
        );
        assert!(!screen.was_drawn());
        screen.feed(b"\x1b[6;398H");
        assert!(screen.was_drawn());
        assert!(!screen.was_drawn());
        let wanted = Shown {
            titles: vec!["A  ü".into(), "B".into()],
            chosen: 1,
            seconds: Some(7),
        };
        assert_eq!(screen.menu(), Some(wanted));
        screen.feed(b"\x1b[H\x1b[J");
        assert_eq!(screen.menu(), None);
    }
}
