//! What is wrong with a kernel image: the field, its value, what it should be.

/// What is wrong with a kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The file is empty.
    Empty,
    /// The file is neither a bzImage nor an ELF file.
    UnknownFormat {
        /// Its first bytes.
        start: [u8; 4],
    },
    /// The file ends before something it should hold.
    Truncated {
        /// What.
        what: &'static str,
        /// Bytes the file would need.
        want: u64,
        /// Bytes it has.
        have: u64,
    },
    /// A header field with a value that cannot be.
    Field {
        /// Its name in the format's specification.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it should be.
        want: &'static str,
    },
    /// A kernel for another kind of processor.
    Machine {
        /// `e_ident[EI_CLASS]`: 1 for 32 bits, 2 for 64.
        class: u8,
        /// `e_machine`
        machine: u16,
    },
    /// A bzImage that is packed once more.
    Nested,
    /// More of something than is looked at.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are looked at.
        limit: usize,
    },
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::UnknownFormat { start } => write!(
                f,
                "neither a bzImage nor an ELF file: it starts with {start:02x?}"
            ),
            Self::Truncated { what, want, have } => write!(
                f,
                "truncated: {what} needs {want} bytes, the file has {have}"
            ),
            Self::Field { field, value, want } => {
                write!(f, "{field} is {value:#x}, not {want}")
            }
            Self::Machine { class, machine } => write!(
                f,
                "not a kernel for x86: e_ident[EI_CLASS] is {class}, e_machine {machine}"
            ),
            Self::Nested => {
                f.write_str("a bzImage that is packed with gzip once more: unpack the file")
            }
            Self::TooMany { what, limit } => {
                write!(f, "too many {what}: at most {limit} are looked at")
            }
        }
    }
}

impl core::error::Error for ImageError {}
