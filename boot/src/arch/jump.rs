//! The last instructions before a jump. To come.
