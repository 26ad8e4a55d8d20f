//! The watch over a guest's console: what it is answered, and when its run ends.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::console::{Line, lab_pair};
use super::guest::{End, Guest, Reply};
use super::talk;

/// A guest's console, and a way to learn that the guest ended.
pub(crate) trait Console {
    /// New lines.
    fn poll(&mut self) -> Result<Vec<Line>>;
    /// What stands after the last line's end.
    fn partial(&self) -> String;
    /// Types a text.
    fn send(&mut self, text: &str) -> Result<()>;
    /// Has dom0 run a shell script.
    fn dom0(&mut self, script: &str) -> Result<()>;
    /// The reason code, once the guest has shut down.
    fn shutdown(&mut self) -> Result<Option<u32>>;
}

/// How long a guest may take to power off.
const GOING: Duration = Duration::from_secs(30);

/// The line sent when the test userspace asks for one.
pub(crate) const HELLO: &str = "hello from the host";

/// Watches a guest to its end, answering what it asks.
pub(crate) fn watch(
    console: &mut dyn Console,
    guest: &Guest,
    created: Instant,
) -> Result<(Vec<Line>, End)> {
    let mut lines: Vec<Line> = Vec::new();
    let mut replies = guest.replies.as_slice();
    let mut over: Option<u32> = None;
    loop {
        // Asked before the console is read, so that no line before the end is missed.
        let ended = console.shutdown()?;
        let new = console.poll()?;
        for line in &new {
            if lab_pair(&line.text) == Some(("ask", "line")) {
                console.send(&format!("{HELLO}\n"))?;
            }
        }
        let mut seen: Vec<String> = new.iter().map(|line| line.text.clone()).collect();
        seen.push(console.partial());
        lines.extend(new);
        for (n, text) in seen.iter().enumerate() {
            let whole = n + 1 < seen.len();
            let Some(((wait, reply), rest)) = replies.split_first() else {
                break;
            };
            let Some((_, value)) = text.split_once(wait.as_str()) else {
                continue;
            };
            match reply {
                Reply::Type(line) => console.send(&format!("{line}\n"))?,
                Reply::Keys(keys) => {
                    thread::sleep(talk::PAUSE);
                    console.send(keys)?;
                }
                Reply::Dom0(script) if whole => console.dom0(&with_value(value, script))?,
                // The rest of the line is yet to come.
                Reply::Dom0(_) => continue,
            }
            replies = rest;
        }
        if let Some(until) = &guest.until
            && replies.is_empty()
            && seen.iter().any(|text| text.contains(until))
        {
            return Ok((lines, End::Text));
        }
        if let Some(code) = over {
            return Ok((lines, End::Shutdown(code)));
        }
        over = ended;
        // A guest that has said all only needs to go; that is quick.
        let last_word = lines
            .iter()
            .rev()
            .take(20)
            .find(|line| lab_pair(&line.text) == Some(("done", "ok")));
        let stuck = last_word.is_some_and(|line| line.at.elapsed() > GOING);
        if stuck || created.elapsed() > guest.timeout {
            return Ok((lines, End::Timeout));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A script that finds `value` in a variable; a guest wrote it.
fn with_value(value: &str, script: &str) -> String {
    let plain: String = value
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || " .:_-".contains(*c))
        .collect();
    format!("value='{plain}'\n{script}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::guest::Mode;
    use super::*;

    struct Fake(Vec<&'static str>, Vec<String>);

    impl Console for Fake {
        fn poll(&mut self) -> Result<Vec<Line>> {
            let at = Instant::now();
            Ok(self
                .0
                .drain(..self.0.len().min(1))
                .map(|text| Line {
                    at,
                    text: text.to_owned(),
                })
                .collect())
        }
        fn partial(&self) -> String {
            String::new()
        }
        fn send(&mut self, text: &str) -> Result<()> {
            self.1.push(text.to_owned());
            Ok(())
        }
        fn dom0(&mut self, script: &str) -> Result<()> {
            self.1.push(script.to_owned());
            Ok(())
        }
        fn shutdown(&mut self) -> Result<Option<u32>> {
            Ok(self.0.is_empty().then_some(0))
        }
    }

    fn guest() -> Guest {
        Guest {
            replies: vec![("prompt".into(), Reply::Type("retry".into()))],
            timeout: Duration::from_secs(5),
            ..Guest::new("g", Mode::Pv, PathBuf::new())
        }
    }

    #[test]
    fn the_watch_answers_and_sees_the_end() {
        let mut fake = Fake(vec!["a", "kexen-lab: ask=line", "prompt>", "z"], Vec::new());
        let (lines, end) = watch(&mut fake, &guest(), Instant::now()).unwrap();
        assert_eq!(end, End::Shutdown(0));
        assert_eq!(lines.len(), 4);
        assert_eq!(fake.1, [format!("{HELLO}\n"), "retry\n".to_owned()]);
    }

    #[test]
    fn dom0_is_told_what_the_guest_said() {
        let mut guest = guest();
        guest.replies = vec![("refs=".into(), Reply::Dom0("run it\n".into()))];
        let mut fake = Fake(vec!["ref", "x: refs=8 '; rm 260", "refs=9"], Vec::new());
        watch(&mut fake, &guest, Instant::now()).unwrap();
        assert_eq!(fake.1, ["value='8  rm 260'\nrun it\n"]);
    }

    #[test]
    fn a_text_can_end_the_run() {
        let mut guest = guest();
        guest.until = Some("again".into());
        let mut fake = Fake(vec!["again", "prompt>", "again", "never"], Vec::new());
        let (lines, end) = watch(&mut fake, &guest, Instant::now()).unwrap();
        assert_eq!((lines.len(), end), (3, End::Text));
    }
}
