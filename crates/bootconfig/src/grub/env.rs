//! A GRUB script's variables.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
};

use super::Platform;

/// Bytes of one value, at most.
pub(super) const MAX_VALUE: usize = 64 << 10;
/// Bytes of all names and values, at most, and what each takes beside them.
const MAX_BYTES: usize = 512 << 10;
const BESIDE: usize = 128;

/// What GRUB 2.06 says that it can do; scripts ask for these.
const FEATURES: [&str; 10] = [
    "feature_200_final",
    "feature_all_video_module",
    "feature_chainloader_bpb",
    "feature_default_font_path",
    "feature_menuentry_id",
    "feature_menuentry_options",
    "feature_nativedisk_cmd",
    "feature_ntldr",
    "feature_platform_search_hint",
    "feature_timeout_style",
];

#[derive(Clone, Debug, Default)]
struct Variable {
    value: String,
    exported: bool,
}

/// The variables of a context.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    variables: BTreeMap<String, Variable>,
    bytes: usize,
}

/// Bytes of memory for a variable.
const fn taken(name: &str, value: &str) -> usize {
    let said = name.len().saturating_add(value.len());
    said.saturating_add(BESIDE)
}

impl Environment {
    /// What GRUB itself sets.
    pub(super) fn new(platform: Platform) -> Self {
        let mut new = Self::default();
        let (name, cpu) = match platform {
            Platform::Pv => ("xen", "x86_64"),
            Platform::Pvh => ("xen_pvh", "i386"),
            Platform::Hvm => ("pc", "i386"),
        };
        for (name, value) in [("grub_platform", name), ("grub_cpu", cpu)]
            .into_iter()
            .chain(FEATURES.map(|name| (name, "y")))
        {
            new.set(name, value);
            new.export(name);
        }
        for name in ["root", "prefix"] {
            new.export(name);
        }
        new
    }

    /// A value; empty if there is none, as in GRUB.
    pub(super) fn get(&self, name: &str) -> &str {
        self.value(name).unwrap_or_default()
    }

    /// A value, if there is one.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let variable = self.variables.get(name)?;
        Some(variable.value.as_str())
    }

    /// Sets a variable; false if that is more than fits.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let old = match self.variables.get(name) {
            Some(old) => taken(name, &old.value),
            None => 0,
        };
        let new = taken(name, value);
        let bytes = self.bytes.saturating_sub(old).saturating_add(new);
        if value.len() > MAX_VALUE || bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        let variable = self.variables.entry(name.to_string()).or_default();
        variable.value = value.to_string();
        true
    }

    /// The variables whose names begin so, without that.
    pub(super) fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter_map(move |(name, variable)| {
            Some((name.strip_prefix(prefix)?, variable.value.as_str()))
        })
    }

    /// Forgets a variable.
    pub(super) fn unset(&mut self, name: &str) {
        if let Some(old) = self.variables.remove(name) {
            self.bytes = self.bytes.saturating_sub(taken(name, &old.value));
        }
    }

    /// Has submenus and other configurations see a variable.
    pub(super) fn export(&mut self, name: &str) {
        if self.variables.contains_key(name) || self.set(name, "") {
            self.variables.entry(name.to_string()).or_default().exported = true;
        }
    }

    /// A new context: exported variables alone.
    pub(super) fn exported(&self) -> Self {
        let mut new = Self::default();
        for (name, variable) in &self.variables {
            if variable.exported {
                new.set(name, &variable.value);
                new.export(name);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_variables_alone_are_in_a_new_context() {
        let mut old = Environment::new(Platform::Pv);
        old.set("a", "1");
        old.set("b", "2");
        old.export("b");
        let new = old.exported();
        assert_eq!((new.get("a"), new.get("b")), ("", "2"));
        assert_eq!(new.get("grub_platform"), "xen");
        assert_eq!(
            Environment::new(Platform::Pvh).get("grub_platform"),
            "xen_pvh"
        );
    }

    #[test]
    fn size_has_a_bound() {
        let mut env = Environment::default();
        let long = "x".repeat(MAX_VALUE);
        assert!(!env.set("a", &(long.clone() + "x")));
        let fitting = (0..100).filter(|n| env.set(&alloc::format!("{n}"), &long));
        assert_eq!(fitting.count(), MAX_BYTES / MAX_VALUE - 1);
        env.unset("0");
        assert!(env.set("new", &long));
        assert!(env.set("new", "short"));
    }
}
