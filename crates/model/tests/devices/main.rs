//! Store, xenbus and block device of the guest layer, with a xenstored and
//! a block backend in domain 0 that map the guest's grants: honest ones and
//! others.

mod block;
mod closing;
mod connecting;
mod wire;
mod world;
mod xenbus;
mod xenstore;
