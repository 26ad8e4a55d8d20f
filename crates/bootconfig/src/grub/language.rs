//! The language of grub.cfg, as GRUB's own interpreter runs it.

use alloc::{format, vec};

use super::tests::{boots, cmdline, run, run_on};
use crate::testfs::{TestFs, gpt};

/// What `grub-emu` 2.06 makes of the same, where it has no disks to ask.
#[test]
fn the_language_does_what_grub_does() {
    for (script, want) in [
        ("r=a", "a"),
        ("set r='a  b'", "a b"),
        ("set x=1\nset r=\"$x${x}\"'$x'\\$x", "11$x$x"),
        (
            "for x in a b 'c d'; do set r=\"$r[$x]\"; done",
            "[a][b][c d]",
        ),
        ("while [ \"$r\" != xxx ]; do set r=x$r; done", "xxx"),
        ("until [ \"$r\" = xx ]; do set r=x$r; done", "xx"),
        (
            "for x in 1 2 3; do if [ $x = 2 ]; then continue; fi; r=$r$x; done",
            "13",
        ),
        (
            "for x in 1 2; do for y in 1 2; do r=$r$y; break 2; done; done",
            "1",
        ),
        (
            "function f { set r=\"$1-$#-$*\"; return 1; }\nif f a 'b c'; then r=x; fi",
            "a-2-a b c",
        ),
        ("function f { shift; set r=$1; }\nf a b", "b"),
        ("false\nset r=$?", "1"),
        ("if [ -f 'x)/k' ]; then r=a; fi", "a"),
        ("false\nfor x in 1; do set r=$?; done", "1"),
        ("false\nfor x in $none; do true; done\nset r=$?", "0"),
        (
            "function f { for x in y$*; do r=\"$r[$x]\"; done; }\nf '' a '' b ''",
            "[ya][b]",
        ),
        (
            "function f { for x in $*z; do r=\"$r[$x]\"; done; }\nf '' a '' b ''",
            "[a][bz]",
        ),
        (
            "if false; then r=a; elif ! true; then r=b; else r=c; fi",
            "c",
        ),
        (
            "if [ x$feature_menuentry_id = xy ]; then r=$grub_platform/$grub_cpu; fi",
            "xen/x86_64",
        ),
        ("set r=a\nunset r", ""),
        ("eval 'set r=a; set r=b$r'", "ba"),
        ("x='set r=a'\n$x", "a"),
        ("search --set=v --label root\nset r=$v", "xen/xvda,gpt1"),
        ("search -l root -s v\nset r=$v", "xen/xvda,gpt1"),
        (
            "search --file --set=v /k --hint=hd0,gpt1\nset r=$v",
            "xen/xvda,gpt1",
        ),
        (
            "search --no-floppy --fs-uuid --set=v AA\nset r=$v",
            "xen/xvda,gpt1",
        ),
        (
            "if search --fs-uuid --set=v bb; then r=a; else r=b$v; fi",
            "b",
        ),
        ("probe -u $root --set=r", "aa"),
        ("probe --set=r --fs ($root)", "ext2"),
        (
            "if [ -f /k -a -e ($root)/i -a -d /grub -a ! -f /gone ]; then r=a; fi",
            "a",
        ),
        (
            "set r=$prefix:$config_file",
            "(xen/xvda,gpt1)/grub:(xen/xvda,gpt1)/grub/grub.cfg",
        ),
        ("r=1\nincrement r\nincrement r\ndecrement r", "2"),
        ("# r=a\nr=b # r=c", "b"),
        ("r=a\\\nb", "ab"),
        ("if keystatus --shift; then r=a; else r=b; fi", "b"),
        ("fwsetup --is-supported\nr=$?", "1"),
        ("function f { return 5; }\nf\nr=$?", "5"),
        ("function f { return 5; }\n! f\nr=$?", "0"),
        ("function f { return; }\nfalse\nf\nr=$?", "1"),
        ("while [ x$c != xaa ]; do c=a$c; done\nr=$?", "1"),
        ("for i in a; do false; done\nr=$?", "1"),
        ("false\nfor i in; do true; done\nr=$?", "0"),
        ("false\nfunction f { true; }\nr=$?", "1"),
        ("export r=5", ""),
        (
            "function b { break; }\nfor i in 1 2; do b; r=$r$i; done",
            "12",
        ),
        ("e=\n$e r=a", "a"),
        ("x='p q'\nr=$x.", "p"),
        ("x=' p '\nr=a$x.", "ap."),
        // Arguments, and what stands for them outside.
        (
            "function f { for x in \"$@\"; do r=\"$r[$x]\"; done; }\nf a 'b c' ''",
            "[a][b c][]",
        ),
        (
            "function f { for x in $@; do r=\"$r[$x]\"; done; }\nf a 'b c'",
            "[a][b][c]",
        ),
        ("for x in $1 $# a$*b; do r=\"$r[$x]\"; done", "[ab]"),
        (
            "function f { for x in $1 $#; do r=\"$r[$x]\"; done; }\nf",
            "[0]",
        ),
        // Loops that a condition or a function leaves.
        (
            "for i in 1 2; do while break; do r=x; done; r=$r$i; done",
            "12",
        ),
        ("for i in 1 2; do if break; then r=x; fi; r=$r$i; done", ""),
        ("break; r=a", "a"),
        ("for i in 1 2; do break 0; r=$r$i; done", "12"),
        ("for i in 1 2; do break x; r=$r$i; done", "12"),
        (
            "function f { for i in 1 2; do return 3; done; r=x; }\nf; r=$?",
            "3",
        ),
        // Commands come before functions of their names.
        ("function true { r=x; }\ntrue", ""),
        ("! x=1; r=$?$x", "01"),
        ("! ; r=$?", "18"),
        ("regexp x; r=$?", "18"),
        ("regexp '(' x; r=$?", "1"),
        ("regexp --set=x:r a a; r=$?", "18"),
        ("search --label none --set=x; r=$?", "5"),
        ("search --label; r=$?", "18"),
        ("search --set=x root; r=$?", "17"),
        ("load_env -f /none; r=$?", "5"),
        ("load_env -x; r=$?", "18"),
        ("unset; r=$?", "18"),
        ("set x; r=$?", "18"),
        ("function f { shift 2; r=$?$1; }\nf a", "18a"),
        ("function f { shift ''; r=$?$1; }\nf a", "0a"),
        ("eval 'false'; r=$?", "1"),
        // To be translated.
        (
            "x='p q'; r=$\"a $x ${x} \\$x \\n $1$ ${\"",
            "a p q p q $x \\n $",
        ),
        // A line that begins with a hash is none, wherever it stands.
        ("r=a\\\n#b\nc", "ac"),
        ("r='a\n#b\nc'", "a c"),
        ("r=a\r\n", "a"),
    ] {
        assert_eq!(cmdline(script), want, "{script}");
    }
}

#[test]
fn what_is_noted_goes_on_as_in_grub() {
    for (script, want) in [
        ("return 3; r=$?", "18"),
        ("false; source /none; r=$?", "0"),
        ("eval \"r=a\n|\nr=b\"", "a"),
        ("r=a\nr=b; |\nr=${r}c", "ac"),
        ("r=a\nr=\"$\"\n", "a"),
        ("r=a\nr=b 'c", "a"),
    ] {
        let text = format!("menuentry y {{ true }}\n{script}\nmenuentry x {{ linux /k $r }}");
        let menu = run(&text);
        assert_eq!(menu.notes.len(), 1, "{script}: {:?}", menu.notes);
        match menu.entries.get(1) {
            Some(entry) => assert_eq!(boots(entry).2, want, "{script}"),
            // The quote has taken it in.
            None => assert!(script.contains('\'')),
        }
    }
}

#[test]
fn an_entry_goes_on_behind_what_is_no_command() {
    let menu = run("menuentry x {\n nonsense\n eval 'a=$'\n linux /k\n}");
    assert!(menu.entries[0].bootable().is_ok());
    assert_eq!(menu.notes.len(), 2, "{:?}", menu.notes);
    assert!(menu.doubts.is_empty());
}

#[test]
fn what_was_found_once_is_found_again() {
    // GRUB keeps what it has found, whatever the hints are afterwards.
    let disk = || TestFs::new("ext4", "", "").files(&["/k"]);
    let script = "search --file --set=a --hint xen/xvda,gpt1 /k\n\
        search --file --set=b --hint xen/xvda,gpt2 /k\n\
        search --file --set=c --hint xen/xvda,gpt2 //k\n\
        menuentry x {\n search --file --set=d --hint xen/xvda,gpt2 /k\n linux /k $a $b $c $d\n}\n";
    let fs = disk().file("/g.cfg", script);
    let menu = run_on(&gpt(vec![fs, disk()]), 0, "/g.cfg").menu;
    let numbers = boots(&menu.entries[0]).2.replace("xen/xvda,gpt", "");
    assert_eq!(numbers, "1 1 2 1");
}

#[test]
fn paths_of_entries_are_in_chosen() {
    let menu = run("submenu 'a>b' { menuentry c --id d { linux /k $chosen; }; }");
    assert_eq!(boots(&menu.entries[0]).2, "a>>b>d");
}
