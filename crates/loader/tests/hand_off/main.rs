//! The boot stage as a whole on the model of Xen: from the start of day that a
//! toolstack leaves to the next kernel's first instruction, by the code that the
//! boot image runs; then the model's check looks for what was left behind.

mod files;
mod machine;
mod pv;
mod pvh;
