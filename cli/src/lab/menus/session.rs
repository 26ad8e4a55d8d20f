//! Talking to a running emulator: by its keys and its screen, and by the disk
//! that its functions save to what they were called with.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::emulator::{Emulator, MODULE_FOLDER, MODULES, MODULES_2_14, Release};
use super::screen::{Screen, Shown, Size};
use crate::host::command;

/// Between parts of a record, and before each record.
const UNIT: char = '\u{1f}';
const RECORD: char = '\u{1e}';

/// Bytes that can be told of one run.
const TOLD: usize = 16 << 10;

/// The command of a run, in a variable: each key that is pressed is told by many
/// characters.
const RUN: &str = "$kx";

/// What a line of commands begins with.
const PROMPT: &str = "grub> ";

/// Leaves a menu or a line of commands. GRUB waits for more of a sequence behind
/// an escape, unless another key follows: one that does nothing in either.
pub(super) const ESCAPE: &str = "\x1b\x15";

/// How long the emulator may do nothing that can be seen. It waits ten seconds
/// itself at most, for a key; the machine may have other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what is written is let come together. The emulator writes each
/// character by itself, and would have each waited for by two threads.
const TOGETHER: Duration = Duration::from_millis(1);

/// Where a configuration starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// GRUB's name of the device.
    pub(crate) device: String,
    /// The folder of `prefix`, and the file in it or elsewhere.
    pub(crate) folder: String,
    pub(crate) file: String,
}

impl Start {
    /// A configuration in its folder.
    pub(crate) fn at(device: &str, file: &str) -> Self {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        Self {
            device: device.to_owned(),
            folder: folder.to_owned(),
            file: file.to_owned(),
        }
    }
}

/// What is seen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A menu that waits.
    Menu(Shown),
    /// The command line, behind everything.
    Prompt,
    /// The emulator has ended.
    End,
}

/// What a stand-in for a command was called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) what: String,
    pub(super) chosen: String,
    pub(super) root: String,
    pub(super) failed: bool,
    pub(super) words: Vec<String>,
}

/// What a configuration left in the variables of its menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) default: String,
    pub(super) timeout: String,
    pub(super) style: String,
    pub(super) fallback: String,
}

/// What was told in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) calls: Vec<Call>,
    /// None if another configuration took the place of the first, before its end.
    pub(super) settings: Option<Settings>,
}

/// A running emulator.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    keys: File,
    written: Receiver<Vec<u8>>,
    screen: Screen,
    told: File,
    told_at: u64,
    number: u32,
    run_cfg: PathBuf,
    /// What is run behind the variables of a run.
    run_text: String,
    at_prompt: bool,
    said_error: bool,
    /// Titles that were said to be started, in this run.
    pub(super) booting: Vec<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    /// Starts an emulator with these disks: `hd0` and so on.
    pub(super) fn start(
        emulator: &Emulator,
        disks: &[PathBuf],
        size: Size,
        dir: &Path,
    ) -> Result<Self> {
        prepare(emulator, disks, dir)?;
        let told_path = dir.join("told.img");
        let told_at = block_in(&told_path)?;
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no terminal")?;
        grantpt(&pty)?;
        unlockpt(&pty)?;
        let name = ptsname(&pty, Vec::new())?;
        let name = name.to_str().context("a terminal whose name is no text")?;
        // The emulator makes its input non-blocking. Of an output that shares the
        // open file with it, what does not fit into the terminal's buffer is lost.
        let open = || File::options().read(true).write(true).open(name);
        let (input, output) = (open()?, open()?);
        let window = Winsize {
            ws_row: size.rows.try_into()?,
            ws_col: size.columns.try_into()?,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&input, window)?;
        let mut program = emulator.command();
        program.arg("-d").arg(dir.join("grub"));
        program.arg("-m").arg(dir.join("device.map"));
        program.args(["-r", "host"]);
        let child = program
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .spawn()
            .with_context(|| format!("cannot start `{}`", command::shown(&program)))?;
        drop(program);
        let keys = File::from(pty);
        let mut reader = keys.try_clone()?;
        let (send, written) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            // The terminal's end is an error (EIO).
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
                thread::sleep(TOGETHER);
            }
        });
        let mut session = Self {
            child,
            keys,
            written,
            screen: Screen::new(size),
            told: File::open(told_path)?,
            told_at,
            number: 0,
            run_cfg: dir.join("run.cfg"),
            run_text: fill(include_str!("../../../../lab/menus/run.cfg")),
            at_prompt: false,
            said_error: false,
            booting: Vec::new(),
        };
        let next = session.next()?;
        ensure!(
            next == Next::Prompt,
            "GRUB does not come to its command line: {next:?}\n{}",
            session.tail()
        );
        ensure!(!session.said_error, "GRUB has errors at its start");
        Ok(session)
    }

    /// Runs a configuration to its menu: with its own timeout, and this in place
    /// of its default unless it is empty; or to stay there.
    pub(super) fn run(&mut self, start: &Start, default: Option<&str>) -> Result<Next> {
        self.number += 1;
        let mut text = String::new();
        for (name, value) in [
            ("number", self.number.to_string().as_str()),
            ("device", &start.device),
            ("folder", &start.folder),
            ("file", &start.file),
            ("mode", if default.is_some() { "timed" } else { "still" }),
            ("default", default.unwrap_or_default()),
        ] {
            text += &format!("kx_{name}='{value}'\nexport kx_{name}\n");
        }
        text += &self.run_text;
        fs::write(&self.run_cfg, text)?;
        self.booting.clear();
        self.press(&format!("{RUN}\r"))?;
        self.next()
    }

    /// Presses keys.
    pub(super) fn press(&mut self, keys: &str) -> Result<()> {
        self.screen.start();
        self.at_prompt = false;
        self.keys
            .write_all(keys.as_bytes())
            .context("no keys can be pressed")
    }

    /// Leaves all menus.
    pub(super) fn leave(&mut self) -> Result<()> {
        for _ in 0..12 {
            if self.at_prompt {
                return Ok(());
            }
            self.press(ESCAPE)?;
            let next = self.next()?;
            ensure!(next != Next::End, "GRUB ends where a menu is left");
        }
        bail!("GRUB's menus cannot be left:\n{}", self.tail())
    }

    /// Waits until GRUB waits. A key that it asks for, it gets.
    pub(super) fn next(&mut self) -> Result<Next> {
        const ANY_KEY: &str = "Press any key to continue...";
        let start = Instant::now();
        loop {
            match self.written.recv_timeout(Duration::from_millis(50)) {
                Ok(bytes) => self.screen.feed(&bytes),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("GRUB is gone")?;
                    ensure!(
                        status.success(),
                        "GRUB itself has ended by a mistake of its own ({status}):\n{}",
                        self.tail()
                    );
                    return Ok(Next::End);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.note_booting();
            if let Some((before, rest)) = self.screen.text.split_once(ANY_KEY) {
                let said = format!("{before}\n{rest}");
                self.keys.write_all(b"x")?;
                self.screen.text = said;
                continue;
            }
            if self.screen.was_drawn()
                && let Some(menu) = self.screen.menu()
            {
                self.at_prompt = false;
                return Ok(Next::Menu(menu));
            }
            if self.screen.text.ends_with(PROMPT) {
                self.at_prompt = true;
                self.said_error |= self.screen.text.contains("error:");
                self.screen.text.clear();
                return Ok(Next::Prompt);
            }
            if start.elapsed() > PATIENCE {
                bail!("GRUB has said nothing more for long:\n{}", self.tail());
            }
        }
    }

    /// Takes in ``Booting `TITLE'``.
    fn note_booting(&mut self) {
        const BEFORE: &str = "  Booting `";
        while let Some(at) = self.screen.text.find(BEFORE) {
            let rest = &self.screen.text[at + BEFORE.len()..];
            let Some((title, rest)) = rest.split_once("'\n") else {
                return;
            };
            // At their ends blanks are not seen in a menu.
            let (title, rest) = (title.trim_end().to_owned(), rest.to_owned());
            self.booting.push(title);
            self.screen.text = format!("{}\n{rest}", &self.screen.text[..at]);
        }
    }

    /// What this run has told so far.
    pub(super) fn told(&self) -> Result<Told> {
        let mut bytes = vec![0; TOLD];
        self.told.read_exact_at(&mut bytes, self.told_at)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut told = Told::default();
        for (name, value) in saved(&text) {
            match name.as_str() {
                "kx_told" => {
                    told.calls = value
                        .split(RECORD)
                        .skip(1)
                        .map(call)
                        .collect::<Result<_>>()?;
                }
                "kx_menu" => {
                    let mut parts = value.split(UNIT);
                    let number = parts.next().unwrap_or_default();
                    let mut next = || parts.next().unwrap_or_default().to_owned();
                    if number == self.number.to_string() {
                        told.settings = Some(Settings {
                            default: next(),
                            timeout: next(),
                            style: next(),
                            fallback: next(),
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(told)
    }

    /// What was shown last, for errors.
    pub(super) fn tail(&self) -> String {
        command::tail(&self.screen.text, 20)
    }
}

/// The variables of an environment block. The reader of the crate that is held
/// against GRUB is not taken for what GRUB tells.
fn saved(text: &str) -> Vec<(String, String)> {
    let text = text.strip_prefix(BLOCK_HEAD).unwrap_or_default();
    let mut found = Vec::new();
    let mut line = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => line.extend(characters.next()),
            '\n' => {
                if let Some((name, value)) = std::mem::take(&mut line).split_once('=') {
                    found.push((name.to_owned(), value.to_owned()));
                }
            }
            c => line.push(c),
        }
    }
    found
}

fn call(record: &str) -> Result<Call> {
    let mut parts = record.split(UNIT).map(str::to_owned);
    let mut next = || {
        parts
            .next()
            .with_context(|| format!("half a record: {record:?}"))
    };
    let (what, chosen, root) = (next()?, next()?, next()?);
    let failed = next()? != "0";
    let count: usize = next()?.parse()?;
    // Without words, GRUB goes round a loop over them once.
    Ok(Call {
        what,
        chosen,
        root,
        failed,
        words: parts.take(count).collect(),
    })
}

/// A text of ours, with the characters between parts.
fn fill(text: &str) -> String {
    text.replace("%U", &UNIT.to_string())
        .replace("%R", &RECORD.to_string())
}

/// Puts down what the emulator reads at its start.
fn prepare(emulator: &Emulator, disks: &[PathBuf], dir: &Path) -> Result<()> {
    let grub = dir.join("grub");
    fs::create_dir_all(&grub)?;
    let link = grub.join(MODULE_FOLDER);
    fs::remove_file(&link).ok();
    std::os::unix::fs::symlink(emulator.modules(), link)?;
    let mut text = String::new();
    let more: &[&str] = match emulator.release {
        Release::V2_12 => &[],
        Release::V2_14 => MODULES_2_14,
    };
    for module in MODULES.iter().chain(more) {
        text += &format!("insmod {module}\n");
    }
    text += "set kx_platform=xen_pvh\nset kx_cpu=i386\nexport kx_platform kx_cpu\n";
    text += &fill(include_str!("../../../../lab/menus/prologue.cfg"));
    let run = dir.join("run.cfg");
    let name = RUN.trim_start_matches('$');
    text += &format!("{name}=\"configfile (host){}\"\n", run.display());
    fs::write(grub.join("grub.cfg"), text)?;
    let told = dir.join("told");
    fs::create_dir_all(&told)?;
    fs::write(told.join("told"), envblock_of(TOLD))?;
    let image = dir.join("told.img");
    fs::remove_file(&image).ok();
    let mut mkfs = Command::new("mke2fs");
    mkfs.args(["-q", "-t", "ext2", "-b", "4096", "-d"])
        .arg(&told);
    command::run(mkfs.arg(&image).arg("1M"))?;
    let mut map = String::new();
    for (number, disk) in disks.iter().enumerate() {
        map += &format!("(hd{number}) {}\n", disk.display());
    }
    map += &format!("(hd9) {}\n", image.display());
    fs::write(dir.join("device.map"), map)?;
    Ok(())
}

/// An empty environment block of that many bytes; its head at least.
pub(super) fn envblock_of(bytes: usize) -> Vec<u8> {
    let mut block = BLOCK_HEAD.as_bytes().to_vec();
    block.resize(bytes.max(block.len()), b'#');
    block
}

const BLOCK_HEAD: &str = "# GRUB Environment Block\n";

/// Where the block lies in an image: in one piece, since nothing else was there.
fn block_in(image: &Path) -> Result<u64> {
    let bytes = fs::read(image)?;
    let head = BLOCK_HEAD.as_bytes();
    let at = bytes.windows(head.len()).position(|window| window == head);
    let at = at.context("the disk that GRUB tells by has no block")?;
    let block = bytes.get(at..at + TOLD).context("the block is cut")?;
    ensure!(
        block[head.len()..].iter().all(|byte| *byte == b'#'),
        "the block that GRUB tells by lies in pieces"
    );
    Ok(u64::try_from(at)?)
}
