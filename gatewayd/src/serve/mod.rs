//! Starts the gateway: listeners, store, timers, and an orderly stop.
