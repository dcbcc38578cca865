//! What `make demo`, `make screens` and `make bench` share: measuring, people's phones,
//! a real installation made by the real ceremony.

pub mod bench;
pub mod ceremony;
pub mod deathwatch;
pub mod forms;
pub mod gallery;
pub mod measure;
pub mod people;
pub mod proof;
pub mod screens;
pub mod shell;
pub mod stamp;
pub mod story;
pub mod tour;
