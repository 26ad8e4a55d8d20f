//! What somebody at a guest's console reads and types.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::guest::{self, End, Guest, Reply, Run};

/// A conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Talk {
    /// In turn: what the console says, and the keys that are pressed then.
    pub(crate) turns: &'static [(&'static str, &'static str)],
    /// What must be said, on a line each: all of these texts, of which one may
    /// have `|` between what is as good.
    pub(crate) lines: &'static [&'static [&'static str]],
    /// What comes of it.
    pub(crate) end: TalkEnd,
}

/// How a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TalkEnd {
    /// The console says this.
    Says(&'static str),
    /// The test userspace finds all as it should be.
    Userspace,
}

/// As long as somebody takes to press a key.
pub(crate) const PAUSE: Duration = Duration::from_millis(300);

impl Talk {
    /// The turns, for the watch over the console.
    pub(crate) fn replies(&self) -> Vec<(String, Reply)> {
        let turns = self.turns.iter();
        turns
            .map(|(wait, keys)| ((*wait).to_owned(), Reply::Keys((*keys).to_owned())))
            .collect()
    }

    /// What ends the watch, if not the guest's end.
    pub(crate) fn until(&self) -> Option<String> {
        match self.end {
            TalkEnd::Says(text) => Some(text.to_owned()),
            TalkEnd::Userspace => None,
        }
    }

    /// Holds a run against it.
    pub(crate) fn judge(&self, guest: &Guest, run: &Run, release: &str) -> Result<()> {
        for texts in self.lines {
            ensure!(
                run.lines.iter().any(|line| {
                    let is_there = |text: &&str| text.split('|').any(|one| line.text.contains(one));
                    texts.iter().all(is_there)
                }),
                "no line with {texts:?}\n{}    (whole console: {})",
                run.tail(),
                run.log.display()
            );
        }
        match self.end {
            TalkEnd::Userspace => guest::check(guest, run, Some(release)),
            TalkEnd::Says(text) => {
                ensure!(
                    run.end == End::Text,
                    "it did not come to {text:?} ({:?})\n{}    (whole console: {})",
                    run.end,
                    run.tail(),
                    run.log.display()
                );
                Ok(())
            }
        }
    }
}
