//! stub
/// What the builder made.
#[derive(Clone, Debug)]
pub(crate) struct StartOfDay {}
