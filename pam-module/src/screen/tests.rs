#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
use super::*;
use crate::conversation::{NotText, Unanswered};

/// A terminal of a few escape sequences, enough to see where the lines land.
struct Vt {
    size: Size,
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    scrolled: usize,
    messages: Vec<String>,
}

impl Vt {
    fn new(columns: usize, rows: usize) -> Self {
        let lines = vec![Vec::new(); rows];
        Self { size: Size { columns, rows }, lines, row: 0, column: 0, scrolled: 0, messages: Vec::new() }
    }

    fn new_line(&mut self) {
        self.column = 0;
        if self.row + 1 == self.size.rows {
            self.lines.remove(0);
            self.lines.push(Vec::new());
            self.scrolled += 1;
        } else {
            self.row += 1;
        }
    }

    fn put(&mut self, c: char) {
        assert!(self.column < self.size.columns, "a line is wider than the terminal");
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = c;
        self.column += 1;
    }

    fn print(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\n' => self.new_line(),
                '\r' => self.column = 0,
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut number = String::new();
                    let end = loop {
                        match chars.next().unwrap() {
                            c @ ('0'..='9' | ';') => number.push(c),
                            c => break c,
                        }
                    };
                    match (end, number.as_str()) {
                        ('A', lines) => self.row = self.row.saturating_sub(lines.parse().unwrap()),
                        ('K', "2") => self.lines[self.row].clear(),
                        ('J', "") => {
                            self.lines[self.row].truncate(self.column);
                            self.lines[self.row + 1..].iter_mut().for_each(Vec::clear);
                        }
                        ('m', _) => {}
                        other => panic!("unexpected sequence {other:?}"),
                    }
                }
                c => self.put(c),
            }
        }
    }

    fn screen(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }
}

impl Conversation for Vt {
    fn tell(&mut self, text: &str) {
        self.messages.push(text.to_owned());
        self.print(text);
        self.new_line();
    }
    fn ask(&mut self, question: &str) -> Result<String, Unanswered> {
        panic!("unexpected question: {question}")
    }
    fn service(&self) -> Option<String> {
        None
    }
    fn user(&self) -> Option<String> {
        None
    }
    fn ruser(&self) -> Option<Result<String, NotText>> {
        None
    }
}

const LOOK: Look = Look { moves: true, utf8: true, qr: true };

fn address(host: &str, ticket: char) -> String {
    format!("HTTPS://{}/S/{}", host.to_ascii_uppercase(), String::from(ticket).repeat(26))
}

fn head() -> Vec<String> {
    ["twinlock: two approvers needed (bob, carol, dave)", "  alice -> root on web01", "  systemctl restart nginx"]
        .map(str::to_owned)
        .to_vec()
}

fn scene(address: Option<String>, note: Option<&str>) -> Scene {
    Scene {
        address,
        code: "code 418 302".to_owned(),
        note: note.map(str::to_owned),
        status: "waiting for approver 1 of 2, 1:47 left, Ctrl-C to give up".to_owned(),
    }
}

fn environment(term: &str, locale: &str) -> Environment {
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    Environment { term: bytes(term), locale: bytes(locale), ..Environment::default() }
}

/// The QR's rows as they stand on the screen.
fn qr_on(screen: &[String], address: &str) -> Option<usize> {
    qr::LADDER.into_iter().position(|rung| {
        let picture = qr::draw(address, rung).unwrap();
        let plain: Vec<String> = picture
            .lines
            .iter()
            .map(|line| line.split('m').nth(1).unwrap_or_default().trim_end_matches("\x1b[0").trim_end().to_owned())
            .collect();
        screen.windows(plain.len()).any(|rows| rows == plain.as_slice())
    })
}

#[test]
fn the_whole_picture_fits_80_by_24_and_stays_while_it_is_redrawn() {
    let mut vt = Vt::new(80, 24);
    let size = vt.size;
    let mut screen = Screen::new(LOOK, head());
    screen.draw(&mut vt, size, &scene(None, None));
    for ticket in ['A', 'B', 'C'] {
        let address = address("tl.example.org", ticket);
        screen.draw(&mut vt, size, &scene(Some(address.clone()), None));
        for second in 0..30 {
            screen.status(&mut vt, size, &format!("waiting, {second} s"));
        }
        let seen = vt.screen();
        assert_eq!(qr_on(&seen, &address), Some(1), "{seen:#?}");
        assert_eq!(seen[..3], head()[..], "the head stays");
        assert!(seen.contains(&address) && seen.contains(&"code 418 302".to_owned()));
        assert_eq!(seen[22], "waiting, 29 s");
        assert_eq!((vt.scrolled, seen.iter().filter(|line| line.contains("waiting")).count()), (0, 1));
    }
    // An approval adds one line: the head gives way, the picture and the status do not.
    let second = address("tl.example.org", 'D');
    screen.draw(
        &mut vt,
        size,
        &scene(Some(second.clone()), Some("bob approved 14:03:12 UTC; approver 2: scan this one")),
    );
    let seen = vt.screen();
    assert!(qr_on(&seen, &second).is_some() && vt.scrolled <= 1, "{seen:#?}");
    assert!(seen.iter().any(|line| line.starts_with("bob approved")));
    // At the end no dead QR is left to be scanned.
    screen.close(&mut vt, size, &["bob and carol approved".to_owned()]);
    let seen = vt.screen();
    assert!(!seen.iter().any(|line| line.contains('█') || line.contains("HTTPS")), "{seen:#?}");
    assert_eq!(seen.iter().rfind(|line| !line.is_empty()).unwrap(), "bob and carol approved");
}

#[test]
fn the_ladder_takes_the_best_code_that_fits() {
    for (host, columns, rows, rung) in [
        ("tl.example.org", 80, 30, Some(0)),
        ("tl.example.org", 80, 24, Some(1)),
        ("gateway.twinlock.example.org:8443", 80, 24, Some(2)),
        ("a-rather-long-name.of-a-gateway.in.twinlock.example.org", 80, 24, Some(2)),
        ("a-rather-long-name.of-a-gateway.in.twinlock.example.org", 80, 40, Some(0)),
        ("an-even-longer-name.of-a-gateway.that-nobody-would.want-to.type.in.twinlock.example.org", 80, 24, None),
        ("an-even-longer-name.of-a-gateway.that-nobody-would.want-to.type.in.twinlock.example.org", 80, 40, Some(0)),
        ("tl.example.org", 30, 24, None),
        ("tl.example.org", 80, 18, None),
    ] {
        let mut vt = Vt::new(columns, rows);
        let size = vt.size;
        let address = address(host, 'A');
        let mut screen = Screen::new(LOOK, head());
        screen.draw(&mut vt, size, &scene(Some(address.clone()), None));
        let seen = vt.screen();
        assert_eq!(qr_on(&seen, &address), rung, "{host} {columns}x{rows} {seen:#?}");
        assert!(seen.iter().any(|line| line.starts_with("code 418 302")));
    }
}

#[test]
fn a_prefix_of_sudo_rs_does_not_shift_the_picture() {
    struct Prefixed(Vt);
    impl Conversation for Prefixed {
        fn tell(&mut self, text: &str) {
            self.0.tell(&format!("[sudo error] {text}"));
        }
        fn ask(&mut self, question: &str) -> Result<String, Unanswered> {
            self.0.ask(question)
        }
        fn service(&self) -> Option<String> {
            None
        }
        fn user(&self) -> Option<String> {
            None
        }
        fn ruser(&self) -> Option<Result<String, NotText>> {
            None
        }
    }
    let mut sudo_rs = Prefixed(Vt::new(80, 24));
    let size = sudo_rs.0.size;
    let mut screen = Screen::new(LOOK, head());
    screen.draw(&mut sudo_rs, size, &scene(None, None));
    let address = address("tl.example.org", 'A');
    screen.draw(&mut sudo_rs, size, &scene(Some(address.clone()), None));
    screen.status(&mut sudo_rs, size, "waiting, 1 s");
    let seen = sudo_rs.0.screen();
    assert_eq!(qr_on(&seen, &address), Some(1), "{seen:#?}");
    assert_eq!(seen[22], "waiting, 1 s");
}

/// Catalogue: D7 (control: the_whole_picture_fits_80_by_24_and_stays_while_it_is_redrawn)
#[test]
fn terminals_that_cannot_show_it_get_text() {
    let looks = |term, locale, rule| {
        let look = Look::of(&environment(term, locale), rule);
        (look.moves, look.utf8, look.qr)
    };
    assert_eq!(looks("xterm-256color", "en_US.UTF-8", QrRule::Auto), (true, true, true));
    assert_eq!(looks("xterm", "C.utf8", QrRule::Auto), (true, true, true));
    assert_eq!(looks("xterm", "C", QrRule::Auto), (true, false, false));
    assert_eq!(looks("vt100", "C.UTF-8", QrRule::Auto), (true, true, false));
    assert_eq!(looks("dumb", "C.UTF-8", QrRule::Auto), (false, true, false));
    assert_eq!(looks("xterm", "C.UTF-8", QrRule::Never), (true, true, false));
    assert!(!Look::of(&Environment::default(), QrRule::Auto).moves);
}

/// Catalogue: D7 (control: the_whole_picture_fits_80_by_24_and_stays_while_it_is_redrawn)
#[test]
fn a_dumb_terminal_gets_each_news_once_and_no_escape_sequence() {
    let mut vt = Vt::new(80, 24);
    let size = vt.size;
    let mut screen = Screen::new(Look { moves: false, utf8: false, qr: false }, head());
    screen.draw(&mut vt, size, &scene(None, None));
    let first = address("tl.example.org", 'A');
    screen.draw(&mut vt, size, &scene(Some(first.clone()), None));
    screen.status(&mut vt, size, "waiting, 1 s");
    screen.draw(&mut vt, size, &scene(Some(first.clone()), None));
    let second = address("tl.example.org", 'B');
    screen.draw(&mut vt, size, &scene(Some(second.clone()), Some("bob approved")));
    screen.close(&mut vt, size, &[]);
    assert!(vt.messages.iter().all(|message| message.chars().all(|c| c == '\n' || (' '..='~').contains(&c))));
    let mut expected = head();
    let lines =
        [&first, "code 418 302", "waiting for approver 1 of 2, 1:47 left, Ctrl-C to give up", "bob approved", &second];
    expected.extend(lines.map(str::to_owned));
    let seen: Vec<String> = vt.screen().into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_window_that_shrinks_while_waiting_is_drawn_anew() {
    let mut vt = Vt::new(80, 40);
    let mut screen = Screen::new(LOOK, head());
    let address = address("tl.example.org", 'A');
    let size = vt.size;
    screen.draw(&mut vt, size, &scene(Some(address.clone()), None));
    vt.size.rows = 10;
    vt.lines.drain(..30);
    vt.row = 9;
    let size = vt.size;
    screen.draw(&mut vt, size, &scene(Some(address.clone()), None));
    let seen = vt.screen();
    assert!(seen.contains(&address) && !seen.iter().any(|line| line.contains('█')), "{seen:#?}");
}

#[test]
fn long_lines_are_cut_by_columns_and_say_so() {
    assert_eq!(cut("abcdef", 6, "…"), "abcdef");
    assert_eq!(cut("abcdefg", 6, "…"), "abcde…");
    assert_eq!(cut("日本語日本語", 6, "…"), "日本…");
    assert_eq!(cut("abcdefg", 6, "..."), "abc...");
    assert_eq!(ascii("a\u{e9}b"), "a\\u{e9}b");
}
