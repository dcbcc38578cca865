//! The gateway's borders, one file per audience: agents, approvers, the administrator, and whoever
//! fetches revocation lists or figures. Handlers parse, call one function, render.

pub mod admin;
pub mod agents;
pub mod approver;
pub mod break_glass;
pub mod changes;
pub mod guard;
pub mod http;
pub mod join;
pub mod monitor;
pub mod problem;
pub mod roster;
pub mod tls;
