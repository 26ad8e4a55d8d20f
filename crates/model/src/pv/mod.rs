//! What Xen demands of a PV guest's page tables and descriptors.

pub(crate) mod descriptors;
pub(crate) mod extended;
pub(crate) mod start;
pub(crate) mod update;
pub(crate) mod validate;
