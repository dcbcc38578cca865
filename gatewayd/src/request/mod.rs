//! The life of an elevation request as a pure state machine: no I/O, no clock.
