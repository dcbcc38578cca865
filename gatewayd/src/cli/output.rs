//! What the command line prints: lines, tables, JSON lines, and errors with a hint.

use std::io::{self, Write as _};

use serde::Serialize;
use twinlock_protocol::escape;
use unicode_width::UnicodeWidthStr as _;

/// A command failed: a line and, mostly, what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Lower case, no full stop.
    pub line: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a hint.
    pub fn new(line: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { line: line.into(), hint: Some(hint.into()) }
    }

    /// A failure that says it all.
    pub fn plain(line: impl Into<String>) -> Self {
        Self { line: line.into(), hint: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it to standard error. Causes may quote file names and peers, so they are escaped.
    pub fn print(&self) {
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "twinlock: error: {}", visible(&self.line));
        if let Some(hint) = &self.hint {
            let _ = writeln!(err, "twinlock: hint: {}", visible(hint));
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::plain(super::chain(&error))
    }
}

/// Lines with everything in them visible.
pub fn visible(text: &str) -> String {
    // Parsers' messages have lines of their own.
    text.lines().map(|line| escape::visible(line.as_bytes())).collect::<Vec<_>>().join("\n  ")
}

/// One line to standard output. A reader that went away (`| head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// One JSON value on one line.
pub fn json(value: &impl Serialize) {
    let mut bytes = twinlock_protocol::codec::encode(value);
    bytes.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&bytes);
    let _ = out.flush();
}

/// A table with a heading; cells are made visible here.
#[must_use]
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| cell_text(cell)).collect()).collect();
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let all = || std::iter::once(&heading).chain(&rows);
    let columns = all().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in all() {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// What is plain stays as it is: the gateway escapes what people typed, and once is enough.
fn cell_text(cell: &str) -> String {
    if cell.chars().all(escape::is_plain) { cell.to_owned() } else { escape::visible(cell.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catalogue: D1 (control: inline)
    #[test]
    fn a_table_shows_untrusted_cells_visibly_and_in_columns() {
        let rows = [vec!["a".to_owned(), "\u{1b}[2J".to_owned()], vec!["日本".to_owned(), "y".to_owned()]];
        assert_eq!(table(&["WHO", "WHAT"], &rows), "WHO   WHAT\na     \\u{1b}[2J\n日本  y\n");
    }
}
