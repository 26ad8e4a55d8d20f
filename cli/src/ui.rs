//! Progress on stderr: a spinner on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All spinners: several pieces of work may go on side by side.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A piece of work that takes long enough to be worth a word.
#[derive(Debug)]
pub(crate) struct Step {
    bar: Option<ProgressBar>,
    text: String,
    start: Instant,
}

fn fancy() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

/// A line on stdout; the end, and no more, where nobody reads on.
pub(crate) fn say(line: impl std::fmt::Display) {
    let written = BARS.suspend(|| writeln!(std::io::stdout(), "{line}"));
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Says what starts now; drop or [`Step::done`] ends it.
pub(crate) fn step(text: impl Into<String>) -> Step {
    let text = text.into();
    let bar = fancy().then(|| {
        let bar = BARS.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(text.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    if bar.is_none() {
        eprintln!("... {text}");
    }
    Step {
        bar,
        text,
        start: Instant::now(),
    }
}

impl Step {
    /// Ends the step with what came of it.
    pub(crate) fn done(self, result: impl AsRef<str>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let result = result.as_ref();
        BARS.suspend(|| eprintln!("ok  {}: {result} ({seconds:.1} s)", self.text));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
