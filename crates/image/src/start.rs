//! In which guest types a kernel can start, and why not in the others.

use alloc::{format, string::String};

use crate::XenNotes;

/// Why a kernel cannot start in a guest of some type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotStart {
    /// It has no Xen notes at all.
    NoNotes,
    /// A note that this type of guest needs is missing.
    Missing(&'static str),
    /// A note with a value that no Xen accepts.
    Note {
        /// Which note.
        note: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        want: &'static str,
    },
    /// A feature that it requires and that this type of guest lacks.
    Feature(String),
}

impl core::fmt::Display for CannotStart {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoNotes => f.write_str(
                "it has no Xen ELF notes (a kernel built without Xen support, or no kernel)",
            ),
            Self::Missing(note) => write!(f, "it has no note {note}"),
            Self::Note { note, value, want } => {
                write!(f, "its note {note} is {value:?}, not {want}")
            }
            Self::Feature(name) => write!(f, "it requires the feature {name:?}"),
        }
    }
}

/// Whether a kernel can start in a 64-bit PV guest.
pub fn can_start_pv(notes: &XenNotes) -> Result<(), CannotStart> {
    if notes.count == 0 {
        return Err(CannotStart::NoNotes);
    }
    let generic = notes
        .loader
        .as_deref()
        .is_some_and(|l| l.starts_with("generic"));
    let linux = notes
        .guest_os
        .as_deref()
        .is_some_and(|g| g.starts_with("linux"));
    if !generic && !linux {
        return Err(match &notes.loader {
            None => CannotStart::Missing("LOADER, which PV needs"),
            Some(loader) => CannotStart::Note {
                note: "LOADER",
                value: loader.clone(),
                want: "\"generic\"",
            },
        });
    }
    match notes.xen_version.as_deref() {
        None => return Err(CannotStart::Missing("XEN_VERSION, which PV needs")),
        Some(version) if !version.starts_with("xen-3.0") => {
            return Err(CannotStart::Note {
                note: "XEN_VERSION",
                value: version.into(),
                want: "\"xen-3.0\"",
            });
        }
        Some(_) => {}
    }
    if notes.virt_base.is_none() {
        if notes.paddr_offset.is_some() {
            return Err(CannotStart::Missing("VIRT_BASE, but one PADDR_OFFSET"));
        }
        if notes.entry.is_none() {
            return Err(CannotStart::Missing("ENTRY (built without PV support)"));
        }
    }
    for feature in notes.features.as_deref().unwrap_or_default().split('|') {
        if let Some(required) = feature.strip_prefix('!')
            && !PV_FEATURES.contains(&required)
        {
            return Err(CannotStart::Feature(required.into()));
        }
    }
    Ok(())
}

/// Features that a PV kernel may require.
const PV_FEATURES: [&str; 4] = [
    "writable_page_tables",
    "writable_descriptor_tables",
    "pae_pgdir_above_4gb",
    "supervisor_mode_kernel",
];

/// Whether a kernel can start in a PVH guest.
pub fn can_start_pvh(notes: &XenNotes) -> Result<(), CannotStart> {
    if notes.count == 0 {
        return Err(CannotStart::NoNotes);
    }
    match notes.phys32_entry {
        None => Err(CannotStart::Missing(
            "PHYS32_ENTRY (built without PVH support)",
        )),
        Some(entry) if entry >> 32 != 0 => Err(CannotStart::Note {
            note: "PHYS32_ENTRY",
            value: format!("{entry:#x}"),
            want: "below 4 GiB",
        }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux() -> XenNotes {
        XenNotes {
            count: 9,
            entry: Some(1),
            virt_base: Some(2),
            loader: Some("generic".into()),
            xen_version: Some("xen-3.0".into()),
            features: Some("!writable_page_tables|pae_pgdir_above_4gb".into()),
            phys32_entry: Some(0x100_0850),
            ..XenNotes::default()
        }
    }

    #[test]
    fn linux_starts_in_both() {
        assert_eq!(can_start_pv(&linux()), Ok(()));
        assert_eq!(can_start_pvh(&linux()), Ok(()));
    }

    #[test]
    fn each_reason_is_given() {
        let none = XenNotes::default();
        assert_eq!(can_start_pv(&none), Err(CannotStart::NoNotes));
        assert_eq!(can_start_pvh(&none), Err(CannotStart::NoNotes));
        let pvh_only = XenNotes {
            count: 1,
            phys32_entry: Some(1),
            ..none.clone()
        };
        assert!(matches!(
            can_start_pv(&pvh_only),
            Err(CannotStart::Missing(_))
        ));
        assert_eq!(can_start_pvh(&pvh_only), Ok(()));
        let why = |notes: &XenNotes| can_start_pv(notes).unwrap_err();
        let version = XenNotes {
            xen_version: Some("xen-2.0".into()),
            ..linux()
        };
        assert!(matches!(
            why(&version),
            CannotStart::Note {
                note: "XEN_VERSION",
                ..
            }
        ));
        let loader = XenNotes {
            loader: Some("special".into()),
            ..linux()
        };
        assert!(matches!(
            why(&loader),
            CannotStart::Note { note: "LOADER", .. }
        ));
        let feature = XenNotes {
            features: Some("!auto_translated_physmap".into()),
            ..linux()
        };
        assert_eq!(
            why(&feature),
            CannotStart::Feature("auto_translated_physmap".into())
        );
        let offset = XenNotes {
            virt_base: None,
            paddr_offset: Some(0),
            ..linux()
        };
        assert!(matches!(why(&offset), CannotStart::Missing(_)));
        let high = XenNotes {
            phys32_entry: Some(1 << 32),
            ..linux()
        };
        assert!(matches!(
            can_start_pvh(&high),
            Err(CannotStart::Note { .. })
        ));
    }
}
