//! What goes over pages that two domains share (`public/io/*.h`).
//!
//! Every number in such a page may be changed by the other side at any
//! time; the types here are for copies.

pub mod blkif;
pub mod ring;
pub mod xenbus;
pub mod xs_wire;
