//! The terminal's picture is what a phone scans: it must decode when a person's phone
//! would, and only then.

use std::time::Duration;

use qrcode::{EcLevel, QrCode};
use twinlock_tests::picture::Theme;
use twinlock_tests::proc::Launch;
use twinlock_tests::term::{Modes, SANE, Terminal};

const URL: &str = "HTTPS://TL.EXAMPLE.ORG/S/7F3K9Q2M4XWTA6BC3D5E7G2H4J";
const LIMIT: Duration = Duration::from_secs(10);

fn me() -> Launch {
    let uid = nix::unistd::getuid();
    Launch::person(&nix::unistd::User::from_uid(uid).unwrap().unwrap().name).dir("/")
}

/// Rows of half blocks with a quiet zone of four modules.
fn half_blocks(url: &str) -> Vec<String> {
    let code = QrCode::with_error_correction_level(url, EcLevel::M).unwrap();
    let (side, dark) = (code.width() as i32, code.to_colors());
    let dark = |x: i32, y: i32| {
        let inside = (0..side).contains(&x) && (0..side).contains(&y);
        inside && dark[(y * side + x) as usize] == qrcode::Color::Dark
    };
    let row = |y: i32| {
        let cell = |x| match (dark(x, y), dark(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        (-4..side + 4).map(cell).collect()
    };
    (-4..side + 4).step_by(2).map(row).collect()
}

/// Prints the rows on an 80×24 terminal with these SGR colours; waits for the end.
fn shown(rows: &[String], colours: &str) -> Terminal {
    let mut text = String::from("twinlock: two approvers needed\n");
    for row in rows {
        text.push_str(&format!("\x1b[{colours}m{row}\x1b[0m\n"));
    }
    text.push_str("end");
    let terminal = Terminal::open(&me(), &["printf", "%s", &text]);
    terminal.wait_for("end", LIMIT);
    terminal
}

/// Black on white, on a dark and on a light terminal.
#[test]
fn a_qr_of_half_blocks_is_scanned_from_the_terminals_picture() {
    let terminal = shown(&half_blocks(URL), "30;107");
    assert_eq!(terminal.picture_in(Theme::DARK).scan(), [URL]);
    assert_eq!(terminal.picture_in(Theme::LIGHT).scan(), [URL]);
}

/// The scanner must be able to say no.
// control: a_qr_of_half_blocks_is_scanned_from_the_terminals_picture
#[test]
fn an_inverted_qr_is_not_scanned() {
    let none: [&str; 0] = [];
    let terminal = shown(&half_blocks(URL), "97;40");
    assert_eq!(terminal.picture_in(Theme::DARK).scan(), none);
}

/// One row scrolled away or lost in the middle spoils it; the whole one beside it decodes.
// control: inline
#[test]
fn a_qr_with_a_missing_row_is_not_scanned() {
    let none: [&str; 0] = [];
    let whole = half_blocks(URL);
    assert_eq!(shown(&whole, "30;107").picture().scan(), [URL]);
    for lost in [9, 12] {
        let mut rows = whole.clone();
        rows.remove(lost);
        assert_eq!(shown(&rows, "30;107").picture().scan(), none, "without row {lost}");
    }
}

#[test]
fn a_program_sees_its_terminal_its_size_and_its_keys() {
    let script = "tty; stty size; read -r word; echo got $word; stty size; exit 7";
    let mut terminal = Terminal::open_sized(&me(), &["sh", "-c", script], (30, 100));
    terminal.wait_for("30 100", LIMIT);
    assert!(terminal.screen().contains(terminal.name().to_str().unwrap()));
    terminal.resize((20, 60));
    terminal.send_line("hello");
    terminal.wait_for("20 60", LIMIT);
    assert!(terminal.screen().contains("got hello"));
    assert_eq!(terminal.exit_code(LIMIT), 7);
}

/// Ctrl-C and a closed window reach the program because the terminal is its controlling one.
#[test]
fn interrupt_and_hang_up_arrive() {
    let script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.02; done";
    let mut terminal = Terminal::open(&me(), &["sh", "-c", script]);
    terminal.wait_for("ready", LIMIT);
    terminal.send("\x03");
    terminal.wait_for("caught", LIMIT);
    assert_eq!(terminal.exit_code(LIMIT), 3);

    let mut terminal = Terminal::open(&me(), &["sh", "-c", "echo ready; sleep 60"]);
    terminal.wait_for("ready", LIMIT);
    terminal.hang_up();
    assert_eq!(terminal.exit_code(LIMIT), 128 + 1);
}

/// control: inline
#[test]
fn a_terminal_left_raw_is_noticed() {
    let mut terminal = Terminal::open(&me(), &["sh", "-c", "read -r x; stty raw -echo; echo done"]);
    assert_eq!(terminal.modes(), SANE);
    terminal.send_line("");
    terminal.wait_for("done", LIMIT);
    assert_eq!(terminal.modes(), Modes { canonical: false, echo: false, signals: false });
    terminal.wait(LIMIT);
}

/// A person at a terminal outside is lent one inside a bed: keys, screen, size, the end.
#[test]
fn a_terminal_inside_a_bed_can_be_lent_to_a_person() {
    if twinlock_tests::ns::skipped_without_root("lending a terminal").unwrap() {
        return;
    }
    let shell = twinlock_tests::world::target_dir().join("debug/examples/bed-shell");
    let mut terminal = Terminal::open_sized(&Launch::person("root"), &[shell], (33, 90));
    terminal.wait_for("alice@web01", LIMIT);
    terminal.send_line("stty size; sudo id -un");
    terminal.wait_for("33 90", LIMIT);
    terminal.wait_for("[sudo] password for alice", LIMIT);
    terminal.send_line(twinlock_tests::bed::PASSWORD);
    terminal.wait_for("root", LIMIT);
    terminal.resize((20, 70));
    terminal.send_line("sleep 0.1; stty size");
    terminal.wait_for("20 70", LIMIT);
    terminal.send("\x04");
    assert_eq!(terminal.exit_code(LIMIT), 0);
    assert_eq!(terminal.modes(), SANE);
}
