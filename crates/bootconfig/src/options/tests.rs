use super::*;

#[test]
fn words_are_told_apart() {
    let (options, rest) = Options::parse(
        "root=/dev/xvda1 kexen.entry=old  kexen.on-error=crash kexen.stats \
         dyndbg=\"file a +p\" kexen.chain=3 kexen.marker=0000000012:00000000000000ff",
    )
    .unwrap();
    assert_eq!(rest, "root=/dev/xvda1 dyndbg=\"file a +p\"");
    assert_eq!(options.entry.as_deref(), Some("old"));
    assert_eq!(options.on_error, OnError::Crash);
    assert!(options.stats && !options.quiet);
    assert_eq!(options.chain, 3);
    assert_eq!(
        options.marker,
        Some(Marker {
            pages: 12,
            checksum: 255
        })
    );
}

#[test]
fn mistakes_name_the_word() {
    for word in [
        "kexen.entry=",
        "kexen.cmdline=both",
        "kexen.on-error",
        "kexen.on-error=shell",
        "kexen.stats=yes",
        "kexen.boot",
        "kexen.boot=net",
        "kexen.timeout",
        "kexen.timeout=",
        "kexen.timeout=-2",
        "kexen.timeout=5s",
        "kexen.chain=1001",
        "kexen.chain=-1",
        "kexen.chain=+5",
        "kexen.marker=1:2",
        "kexen.marker=1:+00000000000000f",
    ] {
        match Options::parse(word).unwrap_err() {
            OptionError::Value { word: named, .. } => assert_eq!(named, word),
            OptionError::Unknown { .. } => panic!("{word}"),
        }
    }
    let error = Options::parse("quiet kexen.colour=red").unwrap_err();
    let text = format!("{error}");
    assert!(
        text.contains("unknown option \"kexen.colour=red\""),
        "{text}"
    );
    assert!(text.contains("kexen.entry=NAME"), "{text}");
}

#[test]
fn quotes_around_a_word_are_no_part_of_it() {
    let (options, rest) = Options::parse("\"kexen.entry=a b\" \"c d\"").unwrap();
    assert_eq!(options.entry.as_deref(), Some("a b"));
    assert_eq!(rest, "\"c d\"");
}

#[test]
fn words_end_at_ascii_white_space_alone() {
    let (options, rest) = Options::parse("a\u{a0}b\tkexen.stats\nc\u{2003}kexen.x").unwrap();
    assert!(options.stats);
    assert_eq!(rest, "a\u{a0}b c\u{2003}kexen.x");
}

#[test]
fn where_from_and_how_long() {
    let (options, rest) = Options::parse("kexen.boot=disk kexen.timeout=-1").unwrap();
    assert_eq!(options.boot, Some(BootFrom::Disk));
    assert_eq!(options.timeout, Some(Timeout::Forever));
    assert!(rest.is_empty());
    let (options, _) = Options::parse("kexen.boot=module kexen.timeout=0").unwrap();
    assert_eq!(options.boot, Some(BootFrom::Module));
    assert_eq!(options.timeout, Some(Timeout::Seconds(0)));
}

#[test]
fn help_lists_what_this_image_takes() {
    let listed = |name: &str| HELP.iter().any(|(option, _)| option.starts_with(name));
    assert_eq!(listed("kexen.omit"), cfg!(feature = "omission"));
    assert_eq!(listed("kexen.probe"), cfg!(feature = "probe"));
    assert_eq!(listed("kexen.differential"), cfg!(feature = "probe"));
}

#[cfg(not(feature = "probe"))]
#[test]
fn the_image_for_everybody_probes_nothing() {
    assert!(matches!(
        Options::parse("kexen.probe=abandon"),
        Err(OptionError::Unknown { .. })
    ));
}

#[cfg(not(feature = "omission"))]
#[test]
fn the_image_for_everybody_omits_nothing() {
    assert!(matches!(
        Options::parse("kexen.omit=m2p"),
        Err(OptionError::Unknown { .. })
    ));
}

#[test]
fn on_error_is_found_beside_mistakes() {
    let of = Options::on_error_of;
    assert_eq!(of("kexen.bad kexen.on-error=crash"), OnError::Crash);
    assert_eq!(of("kexen.on-error=crash kexen.on-error=?"), OnError::Crash);
    assert_eq!(of("kexen.bad"), OnError::Prompt);
}

#[test]
fn a_chain_counts_down() {
    let text = "a kexen.chain=2 b kexen.marker=1:00000000000000aa";
    let (options, _) = Options::parse(text).unwrap();
    assert_eq!(
        options.next_chain_command_line(text, Some("2:x")),
        "a kexen.chain=1 b kexen.marker=2:x"
    );
    assert_eq!(
        options.next_chain_command_line(text, None),
        "a kexen.chain=1 b"
    );
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,200}", option in "kexen\\.[a-z-]{0,14}=?[ -~]{0,30}") {
        let _ = Options::parse(&text);
        let _ = Options::parse(&option);
        let _ = Options::on_error_of(&text);
        let _ = Options::default().next_chain_command_line(&text, None);
    }
}
