//! Passkey registration and the roster ceremony.
