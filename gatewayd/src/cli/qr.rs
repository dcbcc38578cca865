//! A QR code for a terminal: black on white whatever the colours are, two modules per character
//! cell, a quiet zone of four.

const QUIET: usize = 4;

/// The code as lines with colours, or none when the text does not fit a code.
#[must_use]
pub fn lines(text: &str) -> Option<Vec<String>> {
    let modules = crate::qr::modules(text)?;
    let dark = |x: usize, y: usize| {
        let (Some(x), Some(y)) = (x.checked_sub(QUIET), y.checked_sub(QUIET)) else { return false };
        modules.get(y).and_then(|row| row.get(x)).copied().unwrap_or_default()
    };
    let side = modules.len() + 2 * QUIET;
    let line = |row: usize| {
        let cells: String = (0..side)
            .map(|x| match (dark(x, 2 * row), dark(x, 2 * row + 1)) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            })
            .collect();
        format!("\u{1b}[38;5;16;48;5;231m{cells}\u{1b}[0m")
    };
    Some((0..side.div_ceil(2)).map(line).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_link_is_small_enough_for_a_terminal() {
        let lines = lines(&format!("HTTPS://TL.EXAMPLE.ORG/E/{}", "A".repeat(26))).unwrap();
        // 29 modules and the quiet zone: 37 columns, 19 rows.
        assert_eq!(lines.len(), 19);
        assert_eq!(lines.first().unwrap().chars().filter(|c| *c == ' ').count(), 37);
    }
}
