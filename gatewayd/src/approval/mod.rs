//! Sign-in, claims, and the road of one person's answer to `protocol::verify`.
