//! The QR code as half blocks, black on white by explicit colours: on a terminal with a light
//! background the picture would be inverted otherwise, and scanners do not read that.
#![forbid(unsafe_code)]

use qrcode::{Color, EcLevel, QrCode};

/// One rung of the ladder of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Error correction.
    pub level: EcLevel,
    /// Modules of white around it.
    pub quiet: usize,
}

/// From the best to the smallest.
pub const LADDER: [Rung; 3] =
    [Rung { level: EcLevel::M, quiet: 4 }, Rung { level: EcLevel::M, quiet: 2 }, Rung { level: EcLevel::L, quiet: 2 }];

/// Black on white from the 256-colour cube, so that palettes with a grey "white" don't matter.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A code, ready to draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its lines, with colours.
    pub lines: Vec<String>,
    /// Its width in columns.
    pub columns: usize,
}

/// Draws `text`; `None` when it is too long for a code.
#[must_use]
pub fn draw(text: &str, rung: Rung) -> Option<Picture> {
    let code = QrCode::with_error_correction_level(text, rung.level).ok()?;
    let modules = code.width();
    let colours = code.to_colors();
    let side = modules + 2 * rung.quiet;
    let dark = |column: usize, row: usize| {
        let (x, y) = (column.checked_sub(rung.quiet)?, row.checked_sub(rung.quiet)?);
        let module = (x < modules && y < modules).then(|| colours.get(y * modules + x))??;
        (*module == Color::Dark).then_some(())
    };
    let line = |pair: usize| {
        let cells = (0..side).map(|column| match (dark(column, 2 * pair), dark(column, 2 * pair + 1)) {
            (Some(()), Some(())) => '\u{2588}',
            (Some(()), None) => '\u{2580}',
            (None, Some(())) => '\u{2584}',
            (None, None) => ' ',
        });
        format!("{COLOURS}{}{RESET}", cells.collect::<String>())
    };
    Some(Picture { lines: (0..side.div_ceil(2)).map(line).collect(), columns: side })
}
