//! Debian packages without touching the host's own package state.
//!
//! A private apt configuration (its own sources, lists, status and cache)
//! reaches any Debian suite from any Debian or Ubuntu host. The host's other
//! apt settings, such as a proxy, stay in force.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host::{cache, command};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A Debian suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// What becomes Debian 14.
    Forky,
}

impl Suite {
    /// Debian's name of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    /// The suite with its security updates, as apt's `sources.list`.
    pub(crate) fn sources(self) -> String {
        let name = self.name();
        let (main, security) = mirrors();
        format!(
            "deb [signed-by={KEYRING}] {main} {name} main\n\
             deb [signed-by={KEYRING}] {security} {name}-security main\n"
        )
    }
}

/// The archive and the security archive: `KEXEN_MIRROR` and
/// `KEXEN_SECURITY_MIRROR`, else what the host is configured for, else
/// Debian's public name.
fn mirrors() -> (String, String) {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.flatten().map(|entry| entry.path()));
    }
    let configured: String = files
        .iter()
        .filter(|file| {
            file.extension()
                .is_some_and(|ext| ext == "list" || ext == "sources")
        })
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    let pick = |variable: &str, ending: &str, public: &str| {
        std::env::var(variable)
            .ok()
            .or_else(|| configured_mirror(&configured, ending))
            .unwrap_or_else(|| public.to_owned())
    };
    (
        pick("KEXEN_MIRROR", "/debian", "http://deb.debian.org/debian"),
        pick(
            "KEXEN_SECURITY_MIRROR",
            "/debian-security",
            "http://deb.debian.org/debian-security",
        ),
    )
}

/// The first address in apt's sources whose path ends as Debian's does.
fn configured_mirror(sources: &str, ending: &str) -> Option<String> {
    sources
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.ends_with(ending))
        .map(str::to_owned)
}

/// A private apt, ready to download from one suite.
#[derive(Debug)]
pub(crate) struct Apt {
    root: PathBuf,
    /// One at a time: apt's own locks do not wait.
    _alone: File,
}

impl Apt {
    /// Sets the private apt up and refreshes its lists.
    pub(crate) fn new(suite: Suite) -> Result<Self> {
        let root = cache::dir()?.join(format!("apt-{}", suite.name()));
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let alone = File::create(root.join("alone.lock"))?;
        alone.lock().context("cannot lock apt's folder")?;
        fs::write(root.join("sources.list"), suite.sources())?;
        fs::write(root.join("status"), "")?;
        let apt = Self {
            root,
            _alone: alone,
        };
        command::run(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let root = self.root.display();
        for option in [
            format!("Dir::Etc::sourcelist={root}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={root}/state"),
            format!("Dir::State::status={root}/status"),
            format!("Dir::Cache={root}/cache"),
            // The lab is x86-64 whatever the host is.
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            // Files land in our folder, which apt's own user cannot enter.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// Downloads a package's newest version into `dir`, checked by apt, and
    /// unpacks it there. Returns the name of the package file (with version).
    pub(crate) fn unpack(&self, package: &str, dir: &Path) -> Result<String> {
        let files = tempfile::tempdir_in(&self.root)?;
        command::run(
            self.command("apt-get")
                .current_dir(files.path())
                .args(["download", package]),
        )?;
        let deb = fs::read_dir(files.path())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
            .with_context(|| format!("apt-get downloaded no package {package}"))?;
        command::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(dir))?;
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{name} {}", cache::sha256_file(&deb)?))
    }

    /// The kernel package that a meta package stands for at present.
    pub(crate) fn kernel_behind(&self, meta: &str) -> Result<String> {
        let text = command::text(self.command("apt-cache").args(["depends", meta]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("{meta} depends on no kernel"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_configured_mirror() {
        let sources = "# deb http://old/debian bookworm main\n\
                       deb http://ftp.example.org/debian/ bookworm main\n\
                       URIs: http://sec.example.org/debian-security\n";
        assert_eq!(
            configured_mirror(sources, "/debian").as_deref(),
            Some("http://ftp.example.org/debian")
        );
        assert_eq!(
            configured_mirror(sources, "/debian-security").as_deref(),
            Some("http://sec.example.org/debian-security")
        );
        assert_eq!(
            configured_mirror("deb http://a/ubuntu noble main", "/debian"),
            None
        );
    }
}
