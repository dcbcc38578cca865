//! The gallery in `docs/screens`: small PNG files with a palette, light and dark beside
//! each other, named for what they show.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Transformations};
use std::collections::HashMap;

use crate::phone::Phone;
use crate::picture::Theme;
use crate::term::Terminal;

/// No picture may be larger: README and reviews load all of them.
pub const LARGEST: u64 = 60_000;

/// A directory of pictures.
pub struct Gallery {
    dir: PathBuf,
}

impl Gallery {
    /// Makes the directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self { dir }
    }

    /// A terminal on a dark ground.
    pub fn terminal(&self, name: &str, terminal: &Terminal) {
        self.terminal_in(name, terminal, Theme::DARK);
    }

    /// A terminal in these colours.
    pub fn terminal_in(&self, name: &str, terminal: &Terminal, theme: Theme) {
        let path = self.path(name);
        terminal.picture_in(theme).save(&path);
        shrink(&path);
    }

    /// A phone's screen, light and dark; leaves it light.
    pub fn phone(&self, name: &str, phone: &Phone) {
        for (theme, dark) in [("dark", true), ("light", false)] {
            phone.dark(dark);
            let path = self.path(&format!("{name}-{theme}"));
            phone.screenshot(&path);
            shrink(&path);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.png"))
    }
}

/// Rewrites a PNG with the largest palette with which it is small enough.
pub fn shrink(path: &Path) {
    let (width, height, pixels) = read(path);
    for count in [256, 128, 64, 32] {
        write(path, (width, height), &pixels, &palette(&pixels, count));
        let size = fs::metadata(path).expect("a picture").len();
        if size <= LARGEST {
            println!("{} ({size} bytes)", path.display());
            return;
        }
    }
    panic!("{}: more than {LARGEST} bytes even with 32 colours", path.display());
}

fn write(path: &Path, (width, height): (u32, u32), pixels: &[[u8; 3]], colours: &[[u8; 3]]) {
    let mut nearest: HashMap<[u8; 3], u8> = HashMap::new();
    let mut index = |pixel: &[u8; 3]| *nearest.entry(*pixel).or_insert_with(|| closest(colours, *pixel));
    let indexed: Vec<u8> = pixels.iter().map(&mut index).collect();
    let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut encoder = Encoder::new(BufWriter::new(file), width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(colours.concat());
    encoder.set_compression(Compression::High);
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&indexed).and_then(|()| writer.finish()).expect("the pixels");
}

fn read(path: &Path) -> (u32, u32, Vec<[u8; 3]>) {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut decoder = Decoder::new(std::io::BufReader::new(file));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().expect("a PNG");
    let mut bytes = vec![0; reader.output_buffer_size().expect("a picture that fits into memory")];
    let info = reader.next_frame(&mut bytes).expect("pixels");
    let samples = info.color_type.samples();
    assert!(samples >= 3, "a picture in colour");
    let pixels = bytes[..info.buffer_size()].chunks_exact(samples).map(|p| [p[0], p[1], p[2]]).collect();
    (info.width, info.height, pixels)
}

/// The most frequent colours; the rest are shades between them, at the edges of letters.
fn palette(pixels: &[[u8; 3]], count: usize) -> Vec<[u8; 3]> {
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for pixel in pixels {
        *counts.entry(*pixel).or_default() += 1;
    }
    let mut colours: Vec<_> = counts.into_iter().collect();
    // Ties are broken by the colour itself: the same picture gives the same file.
    colours.sort_by_key(|(colour, count)| (std::cmp::Reverse(*count), *colour));
    colours.into_iter().take(count).map(|(colour, _)| colour).collect()
}

fn closest(colours: &[[u8; 3]], pixel: [u8; 3]) -> u8 {
    let distance =
        |colour: &[u8; 3]| -> u32 { colour.iter().zip(pixel).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
    let (at, _) = colours.iter().enumerate().min_by_key(|(_, colour)| distance(colour)).expect("a palette");
    u8::try_from(at).expect("at most 256 colours")
}
