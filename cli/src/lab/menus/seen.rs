//! What a configuration comes to, as GRUB and Kexen are compared in it.

use std::fmt;

use serde::Serialize;

/// A menu, flattened, with what each entry boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    pub(crate) entries: Vec<SeenEntry>,
    /// The titles on the way to the entry that starts by itself.
    pub(crate) default: Option<Vec<String>>,
    /// Seconds; none: it waits for somebody.
    pub(crate) timeout: Option<u64>,
    /// `menu`, `hidden` or `countdown`.
    pub(crate) style: &'static str,
    /// Titles on the way to those that are tried if the default fails.
    pub(crate) fallback: Vec<Vec<String>>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SeenEntry {
    /// The titles of submenus on the way, and its own.
    pub(crate) titles: Vec<String>,
    /// Its id; GRUB tells it only of one that loads something.
    pub(crate) id: Option<String>,
    pub(crate) boots: Boots,
}

/// What an entry boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Boots {
    /// A Linux kernel: files as `device:path`.
    Linux {
        kernel: String,
        initrds: Vec<String>,
        cmdline: String,
    },
    /// Nothing, or nothing that works; why, for people.
    Nothing(String),
}

impl fmt::Display for SeenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.titles.join(" > "))?;
        if let Some(id) = &self.id {
            write!(f, " id {id:?}")?;
        }
        match &self.boots {
            Boots::Linux {
                kernel,
                initrds,
                cmdline,
            } => write!(
                f,
                "\n  linux {kernel} [{cmdline}]\n  initrd {}",
                initrds.join(" ")
            ),
            Boots::Nothing(why) => write!(f, "\n  boots nothing ({why})"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        let path = |titles: &Vec<String>| titles.join(" > ");
        match &self.default {
            Some(titles) => writeln!(f, "default {:?}", path(titles))?,
            None => writeln!(f, "no default")?,
        }
        match self.timeout {
            Some(seconds) => writeln!(f, "timeout {seconds}, {}", self.style)?,
            None => writeln!(f, "no timeout, {}", self.style)?,
        }
        if !self.fallback.is_empty() {
            let all: Vec<String> = self.fallback.iter().map(path).collect();
            writeln!(f, "fallback {}", all.join(", "))?;
        }
        Ok(())
    }
}

/// What differs between GRUB and Kexen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Where: `default`, `timeout`, an entry's titles.
    pub(crate) what: String,
    pub(crate) grub: String,
    pub(crate) kexen: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, grub, kexen } = self;
        write!(f, "{what}\n    GRUB:  {grub}\n    Kexen: {kexen}")
    }
}

/// Holds what Kexen makes of a configuration against what GRUB does.
pub(crate) fn differences(grub: &Seen, kexen: &Seen) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut hold = |what: &str, grub: String, kexen: String| {
        if grub != kexen {
            let what = what.to_owned();
            found.push(Difference { what, grub, kexen });
        }
    };
    let titles = |seen: &Seen| -> Vec<String> {
        let titles = seen.entries.iter().map(|entry| entry.titles.join(" > "));
        titles.collect()
    };
    hold(
        "entries",
        format!("{:?}", titles(grub)),
        format!("{:?}", titles(kexen)),
    );
    for (ours, theirs) in kexen.entries.iter().zip(&grub.entries) {
        let name = theirs.titles.join(" > ");
        if ours.titles != theirs.titles {
            break;
        }
        if let (Some(ours), Some(theirs)) = (&ours.id, &theirs.id) {
            hold(&format!("id of {name:?}"), theirs.clone(), ours.clone());
        }
        let text = |boots: &Boots| match boots {
            Boots::Linux {
                kernel,
                initrds,
                cmdline,
            } => [kernel.clone(), initrds.join(" "), cmdline.clone()],
            Boots::Nothing(_) => ["nothing", "", ""].map(str::to_owned),
        };
        let (theirs_text, ours_text) = (text(&theirs.boots), text(&ours.boots));
        let because = |boots: &Boots, text: &str| match boots {
            Boots::Nothing(why) => format!("nothing ({why})"),
            Boots::Linux { .. } => text.to_owned(),
        };
        if theirs_text[0] != ours_text[0] {
            hold(
                &format!("kernel of {name:?}"),
                because(&theirs.boots, &theirs_text[0]),
                because(&ours.boots, &ours_text[0]),
            );
            continue;
        }
        for (part, index) in [("initrds", 1), ("command line", 2)] {
            let what = format!("{part} of {name:?}");
            hold(&what, theirs_text[index].clone(), ours_text[index].clone());
        }
    }
    hold(
        "default",
        format!("{:?}", grub.default),
        format!("{:?}", kexen.default),
    );
    hold(
        "timeout",
        format!("{:?}", grub.timeout),
        format!("{:?}", kexen.timeout),
    );
    hold("timeout_style", grub.style.into(), kexen.style.into());
    hold(
        "fallback",
        format!("{:?}", grub.fallback),
        format!("{:?}", kexen.fallback),
    );
    found
}
