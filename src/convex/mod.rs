//! Convex: function calls over HTTP, and the delivery of what is due. The only user of
//! reqwest.

pub mod answer;
mod certificate;
pub mod client;
pub mod delivery;
pub mod delivery_state;
pub mod identity;
pub mod query;
pub mod spec;
