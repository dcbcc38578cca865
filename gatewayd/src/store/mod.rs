//! Named transactions over SQLite; a state change and its audit events commit together.
