//! What menus call an image: by its `.osrel` (os-release(5)), and a profile by
//! its `.profile`, which is written the same way (UAPI.5).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// What menus call an image, by its `.osrel`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its title.
    pub title: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it is sorted by.
    pub sort_key: Option<String>,
}

/// The names in an os-release file.
#[must_use]
pub fn names(osrel: &str) -> Names {
    let values = Assignments::read(osrel);
    let first = |keys: &[&str]| keys.iter().find_map(|key| values.get(key));
    Names {
        title: first(&["PRETTY_NAME", "IMAGE_ID", "NAME", "ID"]),
        version: first(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]),
        sort_key: first(&["IMAGE_ID", "ID"]),
    }
}

/// What a profile is called, by its `.profile`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `ID=`: what the entry's id ends with.
    pub id: Option<String>,
    /// `TITLE=`
    pub title: Option<String>,
}

/// The names in a `.profile` section.
#[must_use]
pub fn profile(text: &str) -> Profile {
    let values = Assignments::read(text);
    Profile {
        id: values.get("ID"),
        title: values.get("TITLE"),
    }
}

/// A file of assignments; of several to one name the last counts.
struct Assignments<'a>(Vec<(&'a str, String)>);

impl<'a> Assignments<'a> {
    fn read(text: &'a str) -> Self {
        let lines = text.lines().map(str::trim_ascii);
        let lines = lines.filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| line.split_once('='));
        let values = values.map(|(key, value)| (key, unquoted(value)));
        Self(values.collect())
    }

    fn get(&self, wanted: &str) -> Option<String> {
        let found = self.0.iter().rev().find(|(key, _)| *key == wanted)?;
        Some(found.1.clone()).filter(|value| !value.is_empty())
    }
}

/// A value of a shell's assignment, without its quotes.
fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|value| value.strip_suffix(quote));
        if let Some(inner) = inner {
            let mut out = String::new();
            let mut escaped = false;
            for c in inner.chars() {
                escaped = quote == '"' && c == '\\' && !escaped;
                if !escaped {
                    out.push(c);
                }
            }
            return out;
        }
    }
    value.to_string()
}

/// What an image is called: by its file's name, if nothing else is known.
#[must_use]
pub fn title(names: &Names, file: &str) -> String {
    match (&names.title, &names.version) {
        (Some(title), _) => title.clone(),
        (None, Some(version)) => format!("{file} ({version})"),
        (None, None) => file.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_has_names() {
        let names =
            names("NAME=Fedora\nID=fedora\nVERSION_ID=39\nPRETTY_NAME=\"Fedora \\\"39\\\"\"\nX\n");
        assert_eq!(names.title.as_deref(), Some("Fedora \"39\""));
        assert_eq!(names.version.as_deref(), Some("39"));
        assert_eq!(names.sort_key.as_deref(), Some("fedora"));
        assert_eq!(title(&Names::default(), "a.efi"), "a.efi");
    }

    #[test]
    fn profiles_have_names() {
        let profile = profile("ID=one\n#ID=two\nID=reset\nTITLE='Start anew'\n");
        assert_eq!(profile.id.as_deref(), Some("reset"));
        assert_eq!(profile.title.as_deref(), Some("Start anew"));
        assert_eq!(super::profile("TITLE=\n"), Profile::default());
    }
}
