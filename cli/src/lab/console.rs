//! Console output as lines, each with the time at which it was seen.

use std::time::Instant;

/// A line of a console.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When its end was seen.
    pub(crate) at: Instant,
    /// Its text, without control characters.
    pub(crate) text: String,
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: String,
}

impl Lines {
    /// Takes bytes; gives the lines that they complete.
    pub(crate) fn feed(&mut self, at: Instant, bytes: &[u8]) -> Vec<Line> {
        self.rest.push_str(&String::from_utf8_lossy(bytes));
        let mut lines = Vec::new();
        while let Some(end) = self.rest.find('\n') {
            let text: String = self
                .rest
                .drain(..=end)
                .filter(|c| !c.is_control())
                .collect();
            lines.push(Line { at, text });
        }
        lines
    }

    /// What came after the last line's end: a prompt, perhaps.
    pub(crate) fn partial(&self) -> &str {
        &self.rest
    }
}

/// Key and value of a line `kexen-lab: key=value`. Other writers of the same
/// console may have put something before it; and Linux itself behind it: a
/// terminal writes the end of a line on its own.
pub(crate) fn lab_pair(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("kexen-lab: ")?;
    let (key, value) = rest.split_once('=')?;
    let stamps = value.match_indices('[').map(|(at, _)| at);
    let end = stamps.filter(|at| is_stamped(&value[*at..])).min();
    Some((key, &value[..end.unwrap_or(value.len())]))
}

/// Whether text begins as Linux's own lines do: `[   15.488704] `.
fn is_stamped(text: &str) -> bool {
    let stamp = text
        .strip_prefix('[')
        .and_then(|text| text.split_once("] "));
    let parts = stamp.and_then(|(stamp, _)| stamp.trim_start().split_once('.'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    parts.is_some_and(|(seconds, rest)| digits(seconds) && digits(rest) && rest.len() == 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_cleaned() {
        let mut lines = Lines::default();
        let now = Instant::now();
        assert!(lines.feed(now, b"one\r").is_empty());
        let got = lines.feed(now, b"\ntwo\nprompt> ");
        let texts: Vec<&str> = got.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(lines.partial(), "prompt> ");
    }

    #[test]
    fn lab_lines_are_read() {
        assert_eq!(lab_pair("kexen-lab: vcpus=4"), Some(("vcpus", "4")));
        assert_eq!(
            lab_pair("[ 1.0] kexen-lab: cmdline=a=b"),
            Some(("cmdline", "a=b"))
        );
        assert_eq!(lab_pair("vcpus=4"), None);
        for (line, value) in [
            ("kexen-lab: a=0[   15.488704] clocksource: x", "0"),
            (
                "kexen-lab: a=[1] b[ 2.5] c[12345.678901] d[1.000000] e",
                "[1] b[ 2.5] c",
            ),
            ("kexen-lab: a=[", "["),
        ] {
            assert_eq!(lab_pair(line), Some(("a", value)));
        }
    }
}
