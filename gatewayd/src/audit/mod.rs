//! A closed enum of events, a hash chain, and syslog.
