//! `SHELL_ME=1`: alice's own shell for the person at the keyboard, and the stand-in phones
//! at their command: `twinlock-demo phone bob scan` from another terminal of
//! the machine, or `bob scan` after Ctrl-] in this one. What a phone scans is the picture of alice's terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::bed::Bed;
use crate::demo::ceremony::Holder;
use crate::term::{Size, Terminal};

/// The key that turns to the phones.
const ESCAPE: u8 = 0x1d;
const HELP: &str = "NAME scan | read | approve | deny [REASON] | inbox CODE | look";

/// The shell that is lent.
pub struct Lent<'a> {
    terminal: Mutex<Terminal>,
    holders: &'a [Holder],
}

impl<'a> Lent<'a> {
    /// Opens alice's shell at the size of our own terminal.
    #[must_use]
    pub fn open(bed: &Bed, holders: &'a [Holder]) -> Self {
        let launch = bed.person("alice").env("PS1", "alice@web01:\\w$ ");
        let size = own_size().unwrap_or((30, 100));
        let terminal = Terminal::open_sized(&launch, &["bash", "--norc", "--noprofile", "-i"], size);
        Self { terminal: Mutex::new(terminal), holders }
    }

    /// Lends it until the shell ends; phones answer on `socket` meanwhile.
    ///
    /// # Errors
    /// Standard input is no terminal, or it broke.
    pub fn lend(&self, socket: &Path) -> std::io::Result<()> {
        if !isatty(std::io::stdin()) {
            return Err(std::io::Error::other("standard input is no terminal: there is nobody to lend a shell to"));
        }
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket)?;
        std::thread::scope(|scope| {
            let desk = scope.spawn(|| self.desk(&listener));
            let shown = self.attached();
            // Wakes the listener a last time.
            if let Ok(mut stream) = UnixStream::connect(socket) {
                let _ = stream.write_all(b"\n");
            }
            let _ = desk.join();
            let _ = std::fs::remove_file(socket);
            shown
        })
    }

    fn desk(&self, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            let read = BufReader::new(&stream).read_line(&mut line);
            if !self.is_running() {
                return;
            }
            if read.is_ok() {
                let _ = (&stream).write_all(format!("{}\n", self.answer(&line)).as_bytes());
            }
        }
    }

    fn is_running(&self) -> bool {
        self.lock().is_running()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a line says; a phone that could not is an answer too.
    fn answer(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let (Some(name), Some(act)) = (words.next(), words.next()) else { return HELP.to_owned() };
        let Some(holder) = self.holders.iter().find(|h| h.id == name) else {
            let names: Vec<_> = self.holders.iter().map(|h| h.id.as_str()).collect();
            return format!("nobody called {name} has a phone here: {}", names.join(", "));
        };
        let rest = words.collect::<Vec<_>>().join(" ");
        // A phone panics where a person would frown: the next command starts afresh.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.act(holder, act, &rest)));
        let said = done.unwrap_or_else(|_| "that did not work on this screen (see the lines above)".to_owned());
        format!("{name}'s phone: {said}")
    }

    fn act(&self, holder: &Holder, act: &str, rest: &str) -> String {
        let phone = &holder.phone;
        match act {
            "scan" => {
                let picture = self.lock().picture();
                let codes = picture.scan();
                let Some(code) = codes.iter().find(|code| code.contains("/S/")) else {
                    return "no code to be seen on alice's terminal".to_owned();
                };
                phone.open(code);
                if phone.wait_for(&["sign-in", "request", "problem", "key-lost", "end-calm", "end-bad"]) == "sign-in" {
                    phone.sign_in();
                    phone.wait_for(&["request", "problem", "key-lost", "end-calm", "end-bad"]);
                }
                one_line(&phone.heading())
            }
            "read" => {
                let shown = phone.read_request();
                let mut lines = vec![shown.heading];
                lines.extend(shown.warnings);
                lines.extend(shown.reason.map(|(reason, _)| format!("reason: {reason}")));
                lines.extend(shown.facts);
                lines.push(format!("exactly: {}", shown.command.join(" \u{23ce} ")));
                lines.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("\n  ")
            }
            "approve" => one_line(&phone.approve()),
            "deny" => one_line(&phone.deny((!rest.is_empty()).then_some(rest))),
            "inbox" => {
                phone.open_path("/");
                match phone.inbox_code("", rest) {
                    Ok(()) => one_line(&phone.heading()),
                    Err(said) => one_line(&said),
                }
            }
            "look" => phone.text(),
            _ => HELP.to_owned(),
        }
    }

    fn attached(&self) -> std::io::Result<()> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        let shown = self.relay(&stdin);
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        shown
    }

    fn relay(&self, stdin: &std::io::Stdin) -> std::io::Result<()> {
        let mut stdout = std::io::stdout();
        let mut input = File::from(stdin.as_fd().try_clone_to_owned()?);
        let (mut seen, mut size) = (0, None);
        let mut keys = [0; 1024];
        // None: keys go to alice. Some: a line for the phones is being typed.
        let mut line: Option<String> = None;
        while self.is_running() {
            let now = own_size();
            if now != size {
                size = now;
                size.into_iter().for_each(|size| self.lock().resize(size));
            }
            let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, 20u16).is_ok_and(|n| n > 0) {
                let n = input.read(&mut keys)?;
                if n == 0 {
                    self.lock().hang_up();
                    break;
                }
                for key in &keys[..n] {
                    self.key(*key, &mut line, &mut stdout)?;
                }
            }
            let new = self.lock().transcript()[seen..].to_vec();
            seen += new.len();
            stdout.write_all(&new)?;
            stdout.flush()?;
        }
        Ok(())
    }

    fn key(&self, key: u8, line: &mut Option<String>, stdout: &mut std::io::Stdout) -> std::io::Result<()> {
        let Some(typed) = line else {
            if key == ESCAPE {
                *line = Some(String::new());
                write!(stdout, "\r\n\x1b[7m phone \x1b[0m ")?;
            } else {
                self.lock().send_bytes(&[key]);
            }
            return Ok(());
        };
        match key {
            b'\r' | b'\n' => {
                write!(stdout, "\r\n")?;
                stdout.flush()?;
                let said = self.answer(typed).replace('\n', "\r\n");
                write!(stdout, "\x1b[7m {said} \x1b[0m\r\n")?;
                *line = None;
            }
            0x03 | ESCAPE => {
                write!(stdout, "\r\n")?;
                *line = None;
            }
            0x7f | 0x08 => {
                if typed.pop().is_some() {
                    write!(stdout, "\x08 \x08")?;
                }
            }
            key => {
                let letter = char::from(key);
                if letter == ' ' || letter.is_ascii_graphic() {
                    typed.push(letter);
                    write!(stdout, "{letter}")?;
                }
            }
        }
        stdout.flush()
    }
}

/// The command `phone`: sends its arguments to the desk and prints the answer.
///
/// # Errors
/// Nobody listens on the socket.
pub fn phone_command(socket: &Path, arguments: &[String]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    writeln!(stream, "{}", arguments.join(" "))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Where the desk listens: in the checkout's target directory, which inside and outside see.
#[must_use]
pub fn socket(out_dir: &Path) -> PathBuf {
    out_dir.join("phones.sock")
}

fn own_size() -> Option<Size> {
    tcgetwinsize(std::io::stdin())
        .ok()
        .map(|size| (size.ws_row, size.ws_col))
        .filter(|(rows, cols)| *rows > 4 && *cols > 20)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
