//! Turns an approved request into a certificate, and keeps the revocation list.
