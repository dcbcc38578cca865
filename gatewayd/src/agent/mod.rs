//! The per-host relay between modules and gateways: trusted for nothing but delivery.
