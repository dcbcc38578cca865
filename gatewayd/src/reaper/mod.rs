//! The per-host end of sessions: deadlines, cgroups, grant records; no network.
