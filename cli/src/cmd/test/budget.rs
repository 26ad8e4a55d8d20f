//! How long `test` may take, and in which order it makes what may not all fit.
//!
//! A run that has begun comes to its end: only the next is not begun. What was
//! left out is named. The order comes from a text, a commit's hash for example:
//! what one bounded test leaves out, another makes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::host::cache;

/// The time there is, and what was left out when it was over.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    end: Option<Instant>,
    left: Mutex<Vec<String>>,
}

impl Budget {
    /// So many minutes from now, or no end.
    pub(crate) fn of(minutes: Option<u64>) -> Self {
        let after = |minutes: u64| Instant::now() + Duration::from_secs(60 * minutes);
        Self {
            end: minutes.map(after),
            left: Mutex::default(),
        }
    }

    /// When this share of what is left of the time is over.
    pub(crate) fn share(&self, percent: u32) -> Option<Instant> {
        let now = Instant::now();
        let left = self.end?.saturating_duration_since(now);
        Some(now + left * percent / 100)
    }

    /// Whether a test can be begun before then; if not, its name is kept.
    pub(crate) fn allows(&self, name: &str, end: Option<Instant>) -> bool {
        let over = end.is_some_and(|end| Instant::now() >= end);
        if over {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push(name.to_owned());
        }
        !over
    }

    /// What was left out.
    pub(crate) fn left_out(self) -> Vec<String> {
        self.left
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts things into the order that a text chooses.
pub(crate) fn in_turn<T>(things: &mut [T], turn: &str, name: impl Fn(&T) -> String) {
    things.sort_by_cached_key(|thing| cache::sha256(format!("{turn} {}", name(thing)).as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_late_is_named() {
        let endless = Budget::of(None);
        assert!(endless.allows("a", endless.share(100)));
        assert!(endless.left_out().is_empty());
        let over = Budget::of(Some(0));
        let end = over.share(50);
        assert!(!over.allows("a", end) && !over.allows("b", over.share(100)));
        assert_eq!(over.left_out(), ["a", "b"]);
        let hour = Budget::of(Some(60));
        let half = hour.share(50).unwrap() - Instant::now();
        assert!(half > Duration::from_secs(29 * 60) && half <= Duration::from_secs(30 * 60));
    }

    #[test]
    fn each_text_gives_another_order() {
        let all: Vec<u32> = (0..40).collect();
        let order = |turn: &str| {
            let mut all = all.clone();
            in_turn(&mut all, turn, u32::to_string);
            all
        };
        assert_eq!(order("a"), order("a"));
        assert_ne!(order("a"), order("b"));
        let mut sorted = order("a");
        sorted.sort_unstable();
        assert_eq!(sorted, all);
        // Nothing is last for ever.
        let first: std::collections::BTreeSet<u32> =
            (0..400).map(|turn| order(&turn.to_string())[0]).collect();
        assert_eq!(first.len(), all.len());
    }
}
