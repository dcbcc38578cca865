//! QR codes of links, for the terminal and for the page: level M, upper case in, so that the
//! alphanumeric mode keeps them small. Draws nothing.

use qrcode::{Color, EcLevel, QrCode};

/// The code's modules, row by row, dark ones true, without a quiet zone; none when the text does not fit.
#[must_use]
pub fn modules(text: &str) -> Option<Vec<Vec<bool>>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let dark: Vec<bool> = code.to_colors().into_iter().map(|module| module == Color::Dark).collect();
    Some(dark.chunks(code.width()).map(<[bool]>::to_vec).collect())
}
