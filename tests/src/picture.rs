//! Pictures of a terminal's screen, drawn as modern terminals draw them: a cell twice as
//! high as wide, block elements as exact rectangles, text in DejaVu Sans Mono; and the
//! scanner (zbar) that stands for a phone's camera.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use ab_glyph::{Font, FontVec, PxScale, ScaleFont, point};

/// Pixels per cell.
const CELL: (usize, usize) = (10, 20);
/// Pixels of background around the screen.
const MARGIN: usize = 12;
/// Height of the letters, chosen so that DejaVu's advance is the cell's width.
const LETTERS: f32 = 19.3;
const FONTS: &str = "/usr/share/fonts/truetype/dejavu";

type Rgb = [u8; 3];

/// A terminal's default colours.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    foreground: Rgb,
    background: Rgb,
}

impl Theme {
    /// Light letters on a dark ground.
    pub const DARK: Theme = Theme { foreground: [220, 223, 228], background: [24, 26, 31] };
    /// Dark letters on a white ground.
    pub const LIGHT: Theme = Theme { foreground: [30, 30, 30], background: [255, 255, 255] };
}

/// A picture, three bytes per pixel.
#[derive(Clone)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// Draws the screen.
    pub fn of(screen: &vt100::Screen, theme: Theme) -> Picture {
        let (rows, cols) = screen.size();
        let width = usize::from(cols) * CELL.0 + 2 * MARGIN;
        let height = usize::from(rows) * CELL.1 + 2 * MARGIN;
        let rgb = theme.background.repeat(width * height);
        let mut picture = Picture { width, height, rgb };
        for row in 0..rows {
            for col in 0..cols {
                if let Some(cell) = screen.cell(row, col) {
                    picture.cell(usize::from(row), usize::from(col), cell, theme);
                }
            }
        }
        picture
    }

    /// Writes it as PNG, making the directory if needed.
    pub fn save(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).expect("the picture's directory");
        }
        let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let size = |n: usize| u32::try_from(n).expect("a picture's side");
        let mut encoder = png::Encoder::new(BufWriter::new(file), size(self.width), size(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().expect("the picture's header");
        writer.write_image_data(&self.rgb).expect("the picture's pixels");
    }

    /// Saves it to a temporary place and scans it.
    pub fn scan(&self) -> Vec<String> {
        let file = tempfile::Builder::new().suffix(".png").tempfile().expect("a temporary file");
        self.save(file.path());
        scan(file.path())
    }

    fn cell(&mut self, row: usize, col: usize, cell: &vt100::Cell, theme: Theme) {
        let mut fg = colour(cell.fgcolor(), theme.foreground);
        let mut bg = colour(cell.bgcolor(), theme.background);
        if cell.inverse() {
            (fg, bg) = (bg, fg);
        }
        let (x, y) = (MARGIN + col * CELL.0, MARGIN + row * CELL.1);
        if !cell.is_wide_continuation() {
            let width = if cell.is_wide() { 2 * CELL.0 } else { CELL.0 };
            self.fill(x, y, width, CELL.1, bg);
        }
        for letter in cell.contents().chars() {
            match letter {
                ' ' => {}
                '\u{2588}' => self.fill(x, y, CELL.0, CELL.1, fg),
                '\u{2580}' => self.fill(x, y, CELL.0, CELL.1 / 2, fg),
                '\u{2584}' => self.fill(x, y + CELL.1 / 2, CELL.0, CELL.1 / 2, fg),
                '\u{258C}' => self.fill(x, y, CELL.0 / 2, CELL.1, fg),
                '\u{2590}' => self.fill(x + CELL.0 / 2, y, CELL.0 / 2, CELL.1, fg),
                letter => self.letter(x, y, letter, cell.bold(), fg),
            }
        }
        if cell.underline() {
            self.fill(x, y + CELL.1 - 2, CELL.0, 1, fg);
        }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        for line in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                let at = (line * self.width + column) * 3;
                self.rgb[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    fn letter(&mut self, x: usize, y: usize, letter: char, bold: bool, colour: Rgb) {
        let font = font(bold);
        let scale = PxScale::from(LETTERS);
        let baseline = font.as_scaled(scale).ascent();
        let at = point(x as f32, y as f32 + baseline);
        let glyph = font.glyph_id(letter).with_scale_and_position(scale, at);
        let Some(outline) = font.outline_glyph(glyph) else {
            return;
        };
        let corner = outline.px_bounds().min;
        outline.draw(|dx, dy, cover| {
            let (px, py) = (corner.x as i64 + i64::from(dx), corner.y as i64 + i64::from(dy));
            let inside = |v: i64, end: usize| usize::try_from(v).ok().filter(|v| *v < end);
            if let (Some(px), Some(py)) = (inside(px, self.width), inside(py, self.height)) {
                let at = (py * self.width + px) * 3;
                for (old, new) in self.rgb[at..at + 3].iter_mut().zip(colour) {
                    let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * cover;
                    *old = mixed.round().clamp(0.0, 255.0) as u8;
                }
            }
        });
    }
}

/// Every QR code that zbar finds in the picture, as text.
pub fn scan(png: impl AsRef<Path>) -> Vec<String> {
    let output = Command::new("zbarimg")
        .args(["--quiet", "--raw", "-Sdisable", "-Sqrcode.enable"])
        .arg(png.as_ref())
        .output()
        .expect("zbarimg (package zbar-tools)");
    // Status 4 says that there was nothing to find; others that it could not look.
    let looked = matches!(output.status.code(), Some(0 | 4));
    assert!(looked, "zbarimg: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("a QR code's text");
    text.lines().map(str::to_owned).collect()
}

fn font(bold: bool) -> &'static FontVec {
    static REGULAR: OnceLock<FontVec> = OnceLock::new();
    static BOLD: OnceLock<FontVec> = OnceLock::new();
    let load = |name: &str| {
        let bytes = std::fs::read(Path::new(FONTS).join(name));
        let bytes = bytes.expect("DejaVu Sans Mono (package fonts-dejavu-core)");
        FontVec::try_from_vec(bytes).expect("a font file")
    };
    match bold {
        false => REGULAR.get_or_init(|| load("DejaVuSansMono.ttf")),
        true => BOLD.get_or_init(|| load("DejaVuSansMono-Bold.ttf")),
    }
}

/// xterm's colours.
fn colour(colour: vt100::Color, default: Rgb) -> Rgb {
    const BASIC: [Rgb; 16] = [
        [0, 0, 0],
        [205, 0, 0],
        [0, 205, 0],
        [205, 205, 0],
        [0, 0, 238],
        [205, 0, 205],
        [0, 205, 205],
        [229, 229, 229],
        [127, 127, 127],
        [255, 0, 0],
        [0, 255, 0],
        [255, 255, 0],
        [92, 92, 255],
        [255, 0, 255],
        [0, 255, 255],
        [255, 255, 255],
    ];
    match colour {
        vt100::Color::Default => default,
        vt100::Color::Rgb(r, g, b) => [r, g, b],
        vt100::Color::Idx(i @ 0..16) => BASIC[usize::from(i)],
        vt100::Color::Idx(i @ 16..232) => {
            let step = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let i = i - 16;
            [step(i / 36), step(i / 6 % 6), step(i % 6)]
        }
        vt100::Color::Idx(i) => [8 + 10 * (i - 232); 3],
    }
}
