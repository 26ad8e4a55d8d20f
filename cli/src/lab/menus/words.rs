//! Words and commands of generated scripts.

use super::world::{self, BOOT, DATA, ESP, ROOT, VARIABLES};

/// Numbers that are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// The numbers of one script.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number);
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`.
    pub(super) fn range(&mut self, least: usize, most: usize) -> usize {
        let span = u64::try_from(most - least).unwrap_or(u64::MAX);
        least + usize::try_from(self.next() % (span + 1)).unwrap_or_default()
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.range(1, count) == 1
    }

    pub(super) fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.range(0, all.len() - 1)]
    }

    pub(super) fn pick_one<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[self.range(0, N - 1)]
    }
}

/// Which positional parameters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// None: they are empty.
    None,
    /// A function's or an entry's.
    Arguments,
}

/// A maker of words.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) rng: Rng,
    pub(super) scope: Scope,
}

// Nothing begins with a `*`: that stands for all devices, and the emulator has some
// that no guest has.

/// Bare words, in GRUB's lexer's sense.
const BARE: &[&str] = &[
    "x", "abc", "1", "07", "-n", "a-b_c", "a.b", "x/y", "a,b", "k=v", "50%", "x+", "a:b", "@", "^",
    "~a", "!", "a!b", "=", "==", "in", "if", "a#b", "]", "-",
];
/// What is between single quotes.
const SINGLE: &[&str] = &[
    "", " ", "a b", "  two  ", "$a", "\\", "\"", "a;b", "{", "}", "#", "x*", "?", "[a]", "&", "|",
    "<>", "`", "ü", "\\n", "a\\'", "$$",
];
/// What is between double quotes.
const DOUBLE: &[&str] = &[
    "", " ", "a b", "it's", "\\\"", "\\\\", "\\$a", "\\n", "\\'", "x*", "/d/*", "a;b", "{x}", "#1",
    "ü", "$", "$ ", "a\\b", "`", "\\`", "%s",
];
/// Behind a backslash, outside quotes.
const ESCAPED: &[&str] = &[
    "\\ ", "\\'", "\\\"", "\\\\", "\\$", "\\;", "\\#", "\\a", "\\{", "x\\*", "\\?",
];

impl Words {
    pub(super) const fn new(rng: Rng) -> Self {
        Self {
            rng,
            scope: Scope::None,
        }
    }

    /// The name of a variable that scripts set.
    pub(super) fn variable(&mut self) -> &'static str {
        self.rng.pick(&VARIABLES)
    }

    /// A variable's value, with its `$`.
    fn expansion(&mut self) -> String {
        match (self.rng.range(0, 19), self.scope) {
            (0, _) => "$?".into(),
            (1, _) => "$#".into(),
            (2, _) => "$none".into(),
            (3, _) => "${none}".into(),
            (4, _) => "$grub_platform".into(),
            (5..=7, Scope::Arguments) => "$1".into(),
            (8, Scope::Arguments) => "${2}".into(),
            (9, Scope::Arguments) => "$@".into(),
            (10, Scope::Arguments) => "$*".into(),
            (11, _) => "$1".into(),
            (_, _) if self.rng.one_in(2) => format!("${{{}}}", self.variable()),
            _ => format!("${}", self.variable()),
        }
    }

    /// Something in double quotes.
    fn double(&mut self) -> String {
        let mut text = String::from("\"");
        for _ in 0..self.rng.range(1, 2) {
            if self.rng.one_in(2) {
                text += &self.expansion();
            } else {
                text += self.rng.pick(DOUBLE);
            }
        }
        // A `$` at the end would take the quote in.
        if text.ends_with('$') {
            text += " ";
        }
        text + "\""
    }

    /// Something in quotes.
    pub(super) fn quoted(&mut self) -> String {
        if self.rng.one_in(2) {
            self.double()
        } else {
            format!("'{}'", self.rng.pick(SINGLE))
        }
    }

    fn piece(&mut self) -> String {
        match self.rng.range(0, 9) {
            0..=2 => self.rng.pick(BARE).into(),
            3 => format!("'{}'", self.rng.pick(SINGLE)),
            4..=5 => self.double(),
            6..=8 => self.expansion(),
            _ => self.rng.pick(ESCAPED).into(),
        }
    }

    /// A word of one to three pieces.
    pub(super) fn word(&mut self) -> String {
        let count = self.rng.pick_one([1, 1, 1, 2, 2, 3]);
        (0..count).map(|_| self.piece()).collect()
    }

    /// What is put behind `name=`.
    pub(super) fn value(&mut self) -> String {
        match self.rng.range(0, 9) {
            0 => String::new(),
            1..=3 => self.double(),
            4..=5 => self.rng.pick(&["1", "2", "abc", "linux-6.1", "y"]).into(),
            _ => self.word(),
        }
    }

    /// Words that may expand to names of files.
    pub(super) fn pattern(&mut self) -> &'static str {
        self.rng.pick(&[
            "/d/*.cfg",
            "/d/?.cfg",
            "(hd0,gpt2)/d/*",
            "($root)/d/?.cfg",
            "/d/*/h.cfg",
            "/none/*",
            "/d/*.none",
            "/d/\\*.cfg",
            "\"/d/*.cfg\"",
            "'/d/'*.cfg",
            "/vmlinuz-*",
            "/vmlinuz-?",
            "/*/a.cfg",
            "/d/a*.cfg",
            "(hd0,gpt3)/boot/*",
        ])
    }

    fn operand(&mut self) -> String {
        match self.rng.range(0, 5) {
            0 => self.rng.pick(&["1", "2", "10", "abc", "-1", "y"]).into(),
            1 => self.word(),
            2..=3 => format!("\"${}\"", self.variable()),
            _ => self.double(),
        }
    }

    fn simple_test(&mut self) -> String {
        let file = |rng: &mut Rng| {
            rng.pick(&[
                "/vmlinuz-1",
                "/d",
                "/d/empty",
                "/none",
                "$prefix/grub.cfg",
                "(hd0,gpt3)/boot/vmlinuz-1",
                "(hd1,msdos1)/vmlinuz-2",
                "\"/d/e f.cfg\"",
                "(hd0,gpt1)/",
                "/",
            ])
        };
        match self.rng.range(0, 12) {
            0..=2 => {
                let sign = self.rng.pick(&["=", "==", "!=", "<", ">", "<=", ">="]);
                // GRUB's lexer takes these in quotes alone.
                let sign = if sign.contains(['<', '>']) {
                    format!("\"{sign}\"")
                } else {
                    sign.to_owned()
                };
                format!("{} {sign} {}", self.operand(), self.operand())
            }
            3..=4 => {
                let sign = self
                    .rng
                    .pick(&["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-pgt", "-plt"]);
                format!("{} {sign} {}", self.operand(), self.operand())
            }
            5..=6 => {
                let sign = self.rng.pick(&["-n", "-z"]);
                format!("{sign} {}", self.operand())
            }
            7..=9 => {
                let sign = self.rng.pick(&["-e", "-f", "-d", "-s"]);
                format!("{sign} {}", file(&mut self.rng))
            }
            10 => format!(
                "x${} = x{}",
                self.variable(),
                self.rng.pick(&["y", "1", "", "abc"])
            ),
            _ => self.operand(),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.rng.range(0, 9) {
            0 if depth < 2 => format!("! {}", self.condition(depth + 1)),
            1 | 2 if depth < 2 => {
                let sign = self.rng.pick(&["-a", "-o"]);
                format!(
                    "{} {sign} {}",
                    self.condition(depth + 1),
                    self.condition(depth + 1)
                )
            }
            3 if depth < 2 => format!("\"(\" {} \")\"", self.condition(depth + 1)),
            _ => self.simple_test(),
        }
    }

    /// A condition as a command.
    pub(super) fn test(&mut self) -> String {
        let condition = self.condition(0);
        if self.rng.one_in(4) {
            format!("test {condition}")
        } else {
            format!("[ {condition} ]")
        }
    }

    pub(super) fn regexp(&mut self) -> String {
        let pattern = self.rng.pick(&[
            "'^([a-z]+)-([0-9.]+)$'",
            "'([0-9]+)\\.([0-9]+)'",
            "'^linux'",
            "'b|d'",
            "'(a)?(x)?'",
            "'[[:digit:]]+'",
            "'^(.*)-([^-]*)$'",
            "a.c",
            "'('",
            "'\\$'",
            "''",
            "'x{2,3}'",
        ]);
        let text = match self.rng.range(0, 2) {
            0 => self
                .rng
                .pick(&["linux-6.12", "/boot/x/vmlinuz", "axxb", "6.1", "''"])
                .to_owned(),
            1 => format!("\"${}\"", self.variable()),
            _ => self.word(),
        };
        let name = self.variable();
        let other = self.variable();
        let sets = match self.rng.range(0, 7) {
            0 => String::new(),
            1 => format!("--set {name} "),
            2 => format!("--set=1:{name} --set=2:{other} "),
            3 => format!("-s 2:{name} "),
            4 => format!("-s {name} -s 2:{other} "),
            5 => format!("--set 0:{name} "),
            6 => format!("--set=5:{name} "),
            _ => format!("--set=1:{name} "),
        };
        format!("regexp {sets}{pattern} {text}")
    }

    pub(super) fn search(&mut self) -> String {
        let name = self.variable();
        let by = self.rng.range(0, 2);
        let what = match by {
            0 => self.rng.pick(&[
                BOOT,
                ROOT,
                DATA,
                ESP,
                "a0b1c2d3-0009-4000-8000-000000000000",
            ]),
            1 => self.rng.pick(&[
                "KX-BOOT",
                "KX-ESP",
                "'KX root'",
                "KX-DATA",
                "KX-NONE",
                "kx-boot",
            ]),
            _ => self.rng.pick(&[
                world::MANY,
                "/only-root",
                "/only-esp",
                "/only-data",
                "/boot/vmlinuz-1",
                "/d/a.cfg",
                "/kx/none",
                "/d",
            ]),
        };
        let what = match self.rng.range(0, 9) {
            0 => what.to_uppercase(),
            1 => format!("\"{}\"", what.trim_matches('\'')),
            _ => what.to_owned(),
        };
        if self.rng.one_in(8) {
            let command = ["search.fs_uuid", "search.fs_label", "search.file"][by];
            let hint = self
                .rng
                .pick(&["", " hd0,gpt3", " hd1,msdos1 hd0,gpt2", " hd0,"]);
            let name = self.rng.pick(&[name, "", name]);
            let hint = if name.is_empty() { "" } else { hint };
            return format!("{command} {what} {name}{hint}")
                .trim_end()
                .to_owned();
        }
        let long = ["--fs-uuid", "--label", "--file"][by];
        let short = ["-u", "-l", "-f"][by];
        let by = self.rng.pick_one([long, long, short]);
        let set = match self.rng.range(0, 6) {
            0 | 1 => format!("--set={name}"),
            2 | 3 => format!("--set {name}"),
            4 => format!("-s {name}"),
            5 => "--set".to_owned(),
            _ => String::new(),
        };
        let floppy = self.rng.pick(&["", "--no-floppy", "-n", "--no-floppy"]);
        let hint = self.rng.pick(&[
            "",
            "",
            "--hint=hd0,gpt3",
            "--hint hd0,gpt1",
            "--hint='hd1,msdos1'",
            "--hint-bios=hd0,gpt2 --hint-efi=hd0,gpt2 --hint-baremetal=ahci0,gpt2",
            "--hint-bios hd0,gpt3",
            "--hint hd0,",
            "-h hd0,gpt2",
        ]);
        let mut words = vec![by.to_owned(), set.clone(), floppy.into(), hint.into(), what];
        // In any order; `--set` by itself would take a word behind it.
        for place in (1..words.len()).rev() {
            let other = self.rng.range(0, place);
            words.swap(place, other);
        }
        words.retain(|word| !word.is_empty());
        format!("search {}", words.join(" "))
    }

    pub(super) fn eval(&mut self) -> String {
        let name = self.variable();
        let other = self.variable();
        match self.rng.range(0, 3) {
            // Not the value of any variable for a name: a device has other names in
            // a guest, of which another part would be one.
            0 => format!("{other}={name}; eval \"{name}=\\$${other}\""),
            1 => format!("eval {name}=\"x y\""),
            2 => format!("eval \"set {name}='a b'; {other}=\\\"\\${name}.\\\"\""),
            _ => format!("eval \"${other}\""),
        }
    }

    pub(super) fn unset_or_export(&mut self) -> String {
        let name = self.variable();
        let word = self.rng.pick(&["unset", "export", "export", "set"]);
        format!("{word} {name}")
    }

    pub(super) fn harmless(&mut self) -> Option<String> {
        let text = self.rng.pick(&[
            "insmod part_gpt",
            "echo -n text",
            "# a comment with 'quotes",
            "true; false",
            "false",
            "nosuchcommand a b",
            "clear",
            "",
            "set x=1 ; set y=2;",
            "e=1 # not a word",
            "set a=x\\\ny",
        ]);
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn of_function(&mut self) -> String {
        self.rng
            .pick(&[
                "shift",
                "shift 2",
                "setparams x 'y z'",
                "setparams",
                "e=\"$#\"",
                "shift 0",
            ])
            .to_owned()
    }

    /// Looks at what a command came to.
    pub(super) fn status(&mut self) -> String {
        let command = match self.rng.range(0, 4) {
            0 => self.test(),
            1 => self.regexp(),
            2 => self.search(),
            3 => self
                .rng
                .pick(&["true", "false", "nosuch", "! true", "! false", "set x=1"])
                .into(),
            _ => self.unset_or_export(),
        };
        let name = self.variable();
        format!("{command}; {name}=$?")
    }

    pub(super) fn probe(&mut self) -> String {
        let name = self.variable();
        let option = self.rng.pick(&[
            "-u",
            "--fs-uuid",
            "-l",
            "--label",
            "-f",
            "--fs",
            "-p",
            "--partmap",
        ]);
        let device = self.rng.pick(&[
            "hd0,gpt2",
            "(hd0,gpt1)",
            "hd1,msdos1",
            "($root)",
            "hd0,gpt3",
        ]);
        let set = match self.rng.range(0, 2) {
            0 => format!("--set={name}"),
            1 => format!("--set {name}"),
            _ => format!("-s {name}"),
        };
        format!("probe {set} {option} {device}")
    }

    pub(super) fn linux(&mut self) -> String {
        let command = self
            .rng
            .pick(&["linux", "linux", "linux", "linux16", "linuxefi"]);
        let file = self.rng.pick(&[
            "/vmlinuz-1",
            "/vmlinuz-2",
            "(hd0,gpt3)/boot/vmlinuz-1",
            "($root)/vmlinuz-1",
            "\"/vmlinuz-1\"",
            "//vmlinuz-1",
            "(hd1,msdos1)/vmlinuz-2",
            "/none",
            "/vmlinuz-$b",
        ]);
        let mut text = format!("{command} {file}");
        for _ in 0..self.rng.range(0, 4) {
            text += " ";
            text += &self.word();
        }
        text
    }

    pub(super) fn initrd(&mut self) -> String {
        let command = self
            .rng
            .pick(&["initrd", "initrd", "initrd16", "initrdefi"]);
        let files = self.rng.pick(&[
            "/initrd-1",
            "/initrd-1 /initrd-2",
            "(hd0,gpt3)/boot/initrd-1",
            "/initrd-$c",
            "/initrd-?",
        ]);
        format!("{command} {files}")
    }
}
