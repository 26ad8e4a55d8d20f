//! How many tests came out how, and which of them failed: said again at the
//! end, where whoever reads a long run's last lines finds it.

use std::fmt::Display;

/// Characters of a failure's reason that are said again.
const MOST_WHY: usize = 400;

/// How many tests came out how.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    failed: Vec<String>,
    pub(super) skipped: usize,
}

impl Tally {
    /// Counts a test.
    pub(super) fn count<T, E: Display>(&mut self, name: &str, result: &Result<T, E>) {
        match result {
            Ok(_) => self.passed += 1,
            Err(why) => self.failed.push(failure(name, &format!("{why:#}"))),
        }
    }

    /// Counts those of another tally, too.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped += other.skipped;
    }

    pub(super) const fn failed(&self) -> usize {
        self.failed.len()
    }

    /// The closing line.
    pub(super) fn line(&self) -> String {
        let (passed, failed) = (self.passed, self.failed());
        match self.skipped {
            0 => format!("{passed} passed, {failed} failed"),
            skipped => format!("{passed} passed, {failed} failed, {skipped} skipped"),
        }
    }

    /// Says how all came out: which failed and why, and then how many.
    pub(super) fn say(&self) {
        for failure in &self.failed {
            println!("FAILED {failure}");
        }
        println!("{}", self.line());
    }
}

/// A failed test, with the beginning of its reason, in one line.
fn failure(name: &str, why: &str) -> String {
    let words: Vec<&str> = why.split_whitespace().collect();
    let words = words.join(" ");
    let mut short: String = words.chars().take(MOST_WHY).collect();
    if short.len() < words.len() {
        short.push_str(" ...");
    }
    if short.is_empty() {
        name.to_owned()
    } else {
        format!("{name}: {short}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_line_tells_all() {
        let mut tally = Tally::default();
        tally.count("one", &Ok::<_, &str>(()));
        tally.count("two", &Err::<(), _>("why"));
        assert_eq!(tally.line(), "1 passed, 1 failed");
        tally.skipped = 2;
        assert_eq!(tally.line(), "1 passed, 1 failed, 2 skipped");
        let mut all = Tally::default();
        all.count("three", &Err::<(), _>("why, too"));
        all.add(tally);
        assert_eq!(all.line(), "1 passed, 2 failed, 2 skipped");
        assert_eq!(all.failed, ["three: why, too", "two: why"]);
    }

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(failure("host: a", ""), "host: a");
        assert_eq!(failure("a", "first\n    second"), "a: first second");
        let long = failure("a", &"ä ".repeat(MOST_WHY));
        assert!(long.ends_with("ä ...") || long.ends_with("  ..."), "{long}");
        assert!(long.chars().count() <= MOST_WHY + 8);
    }
}
