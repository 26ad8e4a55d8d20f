//! `loader/loader.conf`, the settings of systemd-boot (loader.conf(5)).

use alloc::{
    format,
    string::{String, ToString},
};

use super::type1;
use crate::entry::{Menu, MenuStyle, Place, Source, Timeout};

/// What of the settings Kexen follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoaderConf {
    /// A pattern for the default entry's id.
    pub default: Option<String>,
    /// One that comes before it, unless what it matches is bad.
    pub preferred: Option<String>,
    /// How long to wait.
    pub timeout: Option<Timeout>,
    /// Whether the menu is shown.
    pub style: MenuStyle,
}

impl LoaderConf {
    /// Reads the settings. What is not followed is noted in `menu`; what says
    /// nothing to a text console (`console-mode`, `editor`, `auto-entries`
    /// and more) is passed over.
    #[must_use]
    pub fn parse(place: &Place, text: &str, menu: &mut Menu) -> Self {
        let mut conf = Self::default();
        for (line, text) in (1_u32..).zip(text.lines()) {
            let Some((key, value)) = type1::key_value(text) else {
                continue;
            };
            let value = type1::unquoted(value);
            let mut note = |text: String| {
                let place = place.clone();
                menu.note(Source { place, line }, text);
            };
            match (key, value) {
                // What was chosen last is kept in EFI variables.
                ("default" | "preferred", saved) if saved.eq_ignore_ascii_case("@saved") => {
                    note(format!(
                        "{key} @saved needs EFI variables, which a Xen guest has not; \
                     name an entry"
                    ))
                }
                ("default" | "preferred", special) if special.starts_with('@') => {
                    note(format!("{key} {special} is not known; name an entry"));
                }
                ("default", pattern) => conf.default = Some(pattern.to_string()),
                ("preferred", pattern) => conf.preferred = Some(pattern.to_string()),
                ("timeout", "menu-force") => conf.timeout = Some(Timeout::Forever),
                ("timeout", "menu-hidden" | "menu-disabled") => {
                    conf.timeout = Some(Timeout::Seconds(0));
                    conf.style = MenuStyle::Hidden;
                }
                ("timeout", seconds) => match seconds.parse() {
                    Ok(seconds) => conf.timeout = Some(Timeout::Seconds(seconds)),
                    Err(_) => note(format!("timeout {seconds:?} is no number of seconds")),
                },
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (LoaderConf, Menu) {
        let mut menu = Menu::default();
        let place = Place {
            volume: 0,
            path: "/loader/loader.conf".into(),
        };
        let conf = LoaderConf::parse(&place, text, &mut menu);
        (conf, menu)
    }

    #[test]
    fn settings_are_read() {
        // As the Arch wiki's page on systemd-boot gives it.
        let (conf, menu) =
            parse("default  arch.conf\ntimeout  4\nconsole-mode max\neditor   no\n# x y\n");
        assert_eq!(conf.default.as_deref(), Some("arch.conf"));
        assert_eq!(conf.timeout, Some(Timeout::Seconds(4)));
        assert!(menu.notes.is_empty());
        assert_eq!(
            parse("timeout menu-force").0.timeout,
            Some(Timeout::Forever)
        );
        assert_eq!(parse("timeout menu-hidden").0.style, MenuStyle::Hidden);
    }

    #[test]
    fn what_is_not_followed_is_noted() {
        for (text, word) in [("\ndefault @saved", "@saved"), ("\ntimeout soon", "soon")] {
            let (conf, menu) = parse(text);
            assert_eq!(conf, LoaderConf::default());
            assert_eq!(menu.notes[0].source.line, 2);
            assert!(menu.notes[0].text.contains(word));
        }
    }
}
