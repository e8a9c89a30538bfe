//! Convex: calling its functions over HTTP, and delivering what is due. The only user of the HTTP
//! client.

pub mod answer;
pub mod client;
pub mod delivery;
pub mod delivery_state;
pub mod query;
