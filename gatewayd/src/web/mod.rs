//! The approval page's files and headers.
