//! What the requester sees while waiting: a head that stays, and below it one block (QR, address,
//! code, the last approval, the status line) that is redrawn in place and never scrolls an 80×24
//! screen away. Without cursor movement (dumb terminal) only news is printed.
//!
//! Everything here is text that is already escaped; nothing the gateway sent gets here but a
//! ticket of a closed alphabet.
#![forbid(unsafe_code)]

use unicode_width::UnicodeWidthChar as _;

use crate::config::QrRule;
use crate::conversation::Conversation;
use crate::facts::Environment;
use crate::qr;
use crate::terminal::Size;

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// It understands cursor movement.
    pub moves: bool,
    /// It shows UTF-8.
    pub utf8: bool,
    /// A QR may be drawn where it fits.
    pub qr: bool,
}

impl Look {
    /// Decides by TERM and locale: the one thing that the environment decides.
    #[must_use]
    pub fn of(environment: &Environment, rule: QrRule) -> Self {
        let term = environment.term.as_deref().unwrap_or_default();
        let moves = !matches!(term, b"" | b"dumb" | b"unknown" | b"emacs" | b"network");
        // No colours there, or none that can be relied on.
        let monochrome = term.starts_with(b"vt1") || term.starts_with(b"vt2") || term.ends_with(b"-m");
        let locale = environment.locale.as_deref().unwrap_or_default().to_ascii_lowercase();
        let utf8 = locale.windows(5).any(|part| part == b"utf-8") || locale.windows(4).any(|part| part == b"utf8");
        Self { moves, utf8, qr: moves && utf8 && !monochrome && rule == QrRule::Auto }
    }
}

/// What is to be seen at one moment. Every line is escaped already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// The address that the QR holds; none before the first ticket.
    pub address: Option<String>,
    /// The terminal's code line.
    pub code: String,
    /// The last approval.
    pub note: Option<String>,
    /// The one line that changes every second.
    pub status: String,
}

/// The block on the terminal.
pub struct Screen {
    look: Look,
    head: Vec<String>,
    /// Lines of the block as it stands on the terminal.
    drawn: usize,
    /// What stands there.
    printed: Scene,
    /// The last address that was printed, without cursor movement.
    address: Option<String>,
}

impl Screen {
    /// An empty screen with this head, which [`Screen::draw`] prints first.
    #[must_use]
    pub fn new(look: Look, head: Vec<String>) -> Self {
        Self { look, head, drawn: 0, printed: Scene::default(), address: None }
    }

    /// Draws the whole block, in place of the one before.
    pub fn draw(&mut self, conversation: &mut dyn Conversation, size: Size, scene: &Scene) {
        let mut lines = Vec::new();
        let first = self.printed == Scene::default();
        if first {
            lines.extend(self.head.iter().map(|line| self.cut(line, size)));
        }
        if !self.look.moves {
            lines.extend(self.news(scene, size));
            self.printed = scene.clone();
            self.address = scene.address.clone().or(self.address.take());
            if !lines.is_empty() {
                conversation.tell(&lines.join("\n"));
            }
            return;
        }
        let block = self.block(scene, size);
        let up = self.back_to_top(size);
        self.drawn = block.len();
        self.printed = scene.clone();
        lines.extend(block);
        conversation.tell(&format!("{up}{}", lines.join("\n")));
    }

    /// Redraws the status line alone.
    pub fn status(&mut self, conversation: &mut dyn Conversation, size: Size, status: &str) {
        if self.look.moves && self.drawn > 0 && self.printed.status != status {
            status.clone_into(&mut self.printed.status);
            conversation.tell(&format!("\r\x1b[2K\x1b[1A\x1b[2K{}", self.cut(status, size)));
        }
    }

    /// Takes the block away: a dead QR must not stay to be scanned.
    pub fn close(&mut self, conversation: &mut dyn Conversation, size: Size, last: &[String]) {
        let up = if self.look.moves { self.back_to_top(size) } else { String::new() };
        self.drawn = 0;
        let lines: Vec<String> = last.iter().map(|line| self.cut(line, size)).collect();
        // The application ends the message with a new line: without one of our own to show, one
        // step up keeps the cursor where the block began.
        if !lines.is_empty() {
            conversation.tell(&format!("{up}{}", lines.join("\n")));
        } else if !up.is_empty() {
            conversation.tell(&format!("{up}\x1b[1A"));
        }
    }

    /// Back to the block's first line, with everything below cleared. sudo-rs puts a prefix before
    /// each message: the carriage return and the first clearing take it away.
    fn back_to_top(&self, size: Size) -> String {
        match self.drawn.min(size.rows.saturating_sub(1)) {
            0 => String::new(),
            lines => format!("\r\x1b[2K\x1b[{lines}A\x1b[J"),
        }
    }

    fn block(&self, scene: &Scene, size: Size) -> Vec<String> {
        let mut below = Vec::new();
        below.extend(scene.address.as_deref().map(|address| self.cut(address, size)));
        below.push(self.cut(&scene.code, size));
        below.extend(scene.note.as_deref().map(|note| self.cut(note, size)));
        below.push(self.cut(&scene.status, size));
        let picture =
            scene.address.as_deref().filter(|_| self.look.qr).and_then(|a| self.picture(a, below.len(), size));
        let mut lines = picture.map(|picture| picture.lines).unwrap_or_default();
        lines.extend(below);
        lines
    }

    /// The best code that fits with the head, or else the smallest that fits without it.
    fn picture(&self, address: &str, below: usize, size: Size) -> Option<qr::Picture> {
        // The cursor rests on the line after the last.
        let rows = size.rows.checked_sub(below + 1)?;
        let fits = |picture: &qr::Picture, rows: usize| picture.lines.len() <= rows && picture.columns <= size.columns;
        // One at a time: to choose a code's mask costs more than to verify a signature.
        let with_head = rows.saturating_sub(self.head.len());
        let draw = |rung, rows| qr::draw(address, rung).filter(|picture| fits(picture, rows));
        let mut best = qr::LADDER.into_iter();
        let mut smallest = qr::LADDER.into_iter().rev();
        best.find_map(|rung| draw(rung, with_head)).or_else(|| smallest.find_map(|rung| draw(rung, rows)))
    }

    /// What a terminal without cursor movement has not seen yet. Code and status stand below the
    /// first address, and are not repeated.
    fn news(&self, scene: &Scene, size: Size) -> Vec<String> {
        let old = &self.printed;
        let mut lines = Vec::new();
        lines.extend(scene.note.as_ref().filter(|_| scene.note != old.note).map(|line| self.cut(line, size)));
        if scene.address.is_some() && scene.address != self.address {
            // An address that is cut is of no use: here nothing is redrawn, so it may wrap.
            lines.extend(scene.address.clone());
            if self.address.is_none() {
                lines.extend([self.cut(&scene.code, size), self.cut(&scene.status, size)]);
            }
        }
        lines
    }

    fn cut(&self, text: &str, size: Size) -> String {
        let text = if self.look.utf8 { text.to_owned() } else { ascii(text) };
        cut(&text, size.columns, if self.look.utf8 { "…" } else { "..." })
    }
}

/// Text for a terminal that shows ASCII only.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    out
}

/// The text, cut to so many columns.
fn cut(text: &str, columns: usize, mark: &str) -> String {
    let width = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(mark));
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= room
    });
    kept.chain(mark.chars()).collect()
}

#[cfg(test)]
mod tests;
