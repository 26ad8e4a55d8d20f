//! What a configuration comes to, as GRUB and Kexen are compared in it.

use std::fmt;

use serde::Serialize;

use super::known::{self, Known};

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
        /// Of GRUB's side: the command line without what [`known::QUOTES`] says.
        #[serde(skip)]
        unquoted: Option<String>,
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
                ..
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
    /// The kind of difference, if it is meant.
    pub(crate) meant: Option<Known>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what, grub, kexen, ..
        } = self;
        if let Some(known) = self.meant {
            write!(f, "meant ({}): ", known.name)?;
        }
        write!(f, "{what}\n    GRUB:  {grub}\n    Kexen: {kexen}")
    }
}

/// Holds what Kexen makes of a configuration against what GRUB does. Entries that
/// `blscfg` takes in may come in another order.
pub(crate) fn differences(grub: &Seen, kexen: &Seen, blscfg: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    let titles = |seen: &Seen| -> Vec<String> {
        let titles = seen.entries.iter().map(|entry| entry.titles.join(" > "));
        titles.collect()
    };
    let sorted = |seen: &Seen| {
        let mut titles = titles(seen);
        titles.sort();
        titles
    };
    let same = blscfg && sorted(grub) == sorted(kexen);
    hold(
        &mut found,
        "entries",
        format!("{:?}", titles(grub)),
        format!("{:?}", titles(kexen)),
        same.then_some(known::ORDER),
    );
    let mut taken = vec![false; kexen.entries.len()];
    for (index, theirs) in grub.entries.iter().enumerate() {
        // The one in the same place; else the next of the same titles.
        let places = std::iter::once(index).chain(0..kexen.entries.len());
        let ours = places.into_iter().find(|place| {
            let ours = kexen.entries.get(*place);
            ours.is_some_and(|ours| ours.titles == theirs.titles) && !taken[*place]
        });
        if let Some(ours) = ours {
            taken[ours] = true;
            entry(&mut found, theirs, &kexen.entries[ours]);
        }
    }
    let by_name: [(&str, [String; 2]); 4] = [
        (
            "default",
            [&grub.default, &kexen.default].map(|one| format!("{one:?}")),
        ),
        (
            "timeout",
            [grub.timeout, kexen.timeout].map(|one| format!("{one:?}")),
        ),
        (
            "timeout_style",
            [grub.style, kexen.style].map(str::to_owned),
        ),
        (
            "fallback",
            [&grub.fallback, &kexen.fallback].map(|one| format!("{one:?}")),
        ),
    ];
    for (what, [theirs, ours]) in by_name {
        hold(&mut found, what, theirs, ours, None);
    }
    found
}

fn hold(
    found: &mut Vec<Difference>,
    what: &str,
    grub: String,
    kexen: String,
    meant: Option<Known>,
) {
    if grub != kexen {
        let what = what.to_owned();
        found.push(Difference {
            what,
            grub,
            kexen,
            meant,
        });
    }
}

fn entry(found: &mut Vec<Difference>, theirs: &SeenEntry, ours: &SeenEntry) {
    let name = theirs.titles.join(" > ");
    if let (Some(ours), Some(theirs)) = (&ours.id, &theirs.id) {
        let what = format!("id of {name:?}");
        hold(found, &what, theirs.clone(), ours.clone(), None);
    }
    let text = |boots: &Boots| match boots {
        Boots::Linux { kernel, .. } => kernel.clone(),
        Boots::Nothing(why) => format!("nothing ({why})"),
    };
    match (&theirs.boots, &ours.boots) {
        (Boots::Nothing(_), Boots::Nothing(_)) => {}
        (
            Boots::Linux {
                kernel,
                initrds,
                cmdline,
                unquoted,
            },
            Boots::Linux {
                kernel: our_kernel,
                initrds: our_initrds,
                cmdline: our_cmdline,
                ..
            },
        ) => {
            let mut part = |part: &str, theirs: String, ours: String, meant| {
                hold(found, &format!("{part} of {name:?}"), theirs, ours, meant);
            };
            part("kernel", kernel.clone(), our_kernel.clone(), None);
            part("initrds", initrds.join(" "), our_initrds.join(" "), None);
            let quotes = unquoted.as_ref() == Some(our_cmdline);
            part(
                "command line",
                cmdline.clone(),
                our_cmdline.clone(),
                quotes.then_some(known::QUOTES),
            );
        }
        (theirs, ours) => {
            let what = format!("kernel of {name:?}");
            hold(found, &what, text(theirs), text(ours), None);
        }
    }
}
