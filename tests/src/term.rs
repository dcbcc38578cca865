//! A real terminal for a program under test: a pty that is the controlling terminal of a
//! new session, a screen kept by a vt100 parser, keys sent, pictures taken.
//!
//! What a test reads here is what a person would see, not what the program wrote.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::picture::{Picture, Theme};
use crate::proc::Launch;

/// Rows and columns of a terminal.
pub type Size = (u16, u16);

/// What most people have, and the smallest on which everything must fit.
pub const CLASSIC: Size = (24, 80);

/// A program on a terminal. Dropping it closes the terminal, then kills the program.
pub struct Terminal {
    child: Child,
    status: Option<ExitStatus>,
    master: Option<File>,
    name: PathBuf,
    shared: Arc<Shared>,
    stop: Option<PipeWriter>,
    reader: Option<JoinHandle<()>>,
}

/// The local modes that a sane terminal has on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Lines are edited before they are delivered.
    pub canonical: bool,
    /// What is typed is shown.
    pub echo: bool,
    /// Ctrl-C interrupts.
    pub signals: bool,
}

/// The modes of a terminal at rest.
pub const SANE: Modes = Modes { canonical: true, echo: true, signals: true };

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A test that fails while it looks at the screen must still be able to print it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    parser: vt100::Parser,
    raw: Vec<u8>,
    closed: bool,
}

impl Terminal {
    /// Starts the program on a fresh terminal of 24 rows and 80 columns.
    pub fn open<S: AsRef<OsStr>>(launch: &Launch, argv: &[S]) -> Terminal {
        Terminal::open_sized(launch, argv, CLASSIC)
    }

    /// Starts the program on a fresh terminal of this size.
    pub fn open_sized<S: AsRef<OsStr>>(launch: &Launch, argv: &[S], size: Size) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pty");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("unlocking a pty");
        let name = ptsname(&master, Vec::new()).expect("the pty's name");
        let name = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
        set_size(&master, size);
        let slave = open_slave(&name, launch.uid());
        let mut command = launch.clone().with_terminal().command(argv);
        let twin = || slave.try_clone().expect("duplicating the pty");
        command.stdin(twin()).stdout(twin()).stderr(twin());
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        drop((command, slave)); // or the terminal never closes

        let parser = vt100::Parser::new(size.0, size.1, 1000);
        let state = State { parser, raw: Vec::new(), closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (ended, stop) = std::io::pipe().expect("a pipe");
        let master = File::from(master);
        let input = master.try_clone().expect("duplicating the pty");
        let to = Arc::clone(&shared);
        let reader = std::thread::spawn(move || read_screen(input, ended, &to));
        Terminal { child, status: None, master: Some(master), name, shared, stop: Some(stop), reader: Some(reader) }
    }

    /// The process id of the program (every helper before it has execed).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of the terminal, as `tty` prints it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Types these bytes; `\r` is the Enter key, `\x03` Ctrl-C.
    pub fn send(&mut self, keys: &str) {
        self.send_bytes(keys.as_bytes());
    }

    /// Types bytes that need not be UTF-8.
    pub fn send_bytes(&mut self, keys: &[u8]) {
        let master = self.master.as_mut().expect("the terminal is open");
        master.write_all(keys).expect("typing");
    }

    /// Types a line and presses Enter.
    pub fn send_line(&mut self, line: &str) {
        self.send(&format!("{line}\r"));
    }

    /// The text on the screen, one line per row, trailing blanks removed.
    pub fn screen(&self) -> String {
        self.shared.lock().parser.screen().contents()
    }

    /// Every byte that reached the terminal so far.
    pub fn transcript(&self) -> Vec<u8> {
        self.shared.lock().raw.clone()
    }

    /// Row and column of the cursor, from 0.
    pub fn cursor(&self) -> Size {
        self.shared.lock().parser.screen().cursor_position()
    }

    /// Waits until the screen shows the text; panics with the screen after `limit`.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) -> Duration {
        self.wait_until(&format!("{text:?}"), limit, |screen| screen.contains(text))
    }

    /// Waits until the screen's text satisfies `there`.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, there: impl Fn(&str) -> bool) -> Duration {
        let started = Instant::now();
        let mut state = self.shared.lock();
        loop {
            let text = state.parser.screen().contents();
            if there(&text) {
                return started.elapsed();
            }
            let left = limit.saturating_sub(started.elapsed());
            let how = if state.closed { "the terminal closed" } else { "nothing came" };
            assert!(!left.is_zero() && !state.closed, "{how}, waiting for {what}:\n{text}");
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Changes the window, as a person dragging its corner does.
    pub fn resize(&mut self, size: Size) {
        set_size(self.master.as_ref().expect("the terminal is open"), size);
        self.shared.lock().parser.screen_mut().set_size(size.0, size.1);
    }

    /// How the terminal treats keys now. A raw one after the program's end is a broken one.
    pub fn modes(&self) -> Modes {
        let master = self.master.as_ref().expect("the terminal is open");
        // On Linux both sides of a pty show the same settings.
        let local = tcgetattr(master).expect("the terminal's settings").local_modes;
        Modes {
            canonical: local.contains(LocalModes::ICANON),
            echo: local.contains(LocalModes::ECHO),
            signals: local.contains(LocalModes::ISIG),
        }
    }

    /// Lends the terminal to the person at our own standard input, until the program ends.
    /// What is on the screen already is painted first.
    pub fn attach(&mut self) -> std::io::Result<ExitStatus> {
        let (stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        let shown = self.attached(&stdin, &mut stdout);
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        shown?;
        Ok(self.wait(Duration::from_secs(5)))
    }

    fn attached(&mut self, stdin: &std::io::Stdin, stdout: &mut std::io::Stdout) -> std::io::Result<()> {
        let mut input = File::from(stdin.as_fd().try_clone_to_owned()?);
        let mut seen = {
            let state = self.shared.lock();
            stdout.write_all(&state.parser.screen().state_formatted())?;
            state.raw.len()
        };
        let mut size = CLASSIC;
        let mut keys = [0; 1024];
        while self.is_running() {
            if let Ok(now) = tcgetwinsize(stdin)
                && (now.ws_row, now.ws_col) != size
            {
                size = (now.ws_row, now.ws_col);
                self.resize(size);
            }
            let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, 20u16).is_ok_and(|n| n > 0);
            if ready {
                let n = input.read(&mut keys)?;
                if n == 0 {
                    self.hang_up();
                    break;
                }
                self.master.as_mut().expect("the terminal is open").write_all(&keys[..n])?;
            }
            let new = self.shared.lock().raw[seen..].to_vec();
            seen += new.len();
            stdout.write_all(&new)?;
            stdout.flush()?;
        }
        Ok(())
    }

    /// Closes the window: the program gets its hang-up.
    pub fn hang_up(&mut self) {
        drop(self.stop.take());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the screen's reader");
        }
        drop(self.master.take());
    }

    /// True until the program has ended (others may still hold the terminal).
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("waiting for the program");
        }
        self.status.is_none()
    }

    /// Waits for the program's end and for its last words on the screen.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        while self.is_running() {
            assert!(Instant::now() < until, "still running after {limit:?}:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(3));
        }
        // Programs left in the background keep the terminal open: then this is all.
        let state = self.shared.lock();
        let grace = Duration::from_millis(300);
        drop(
            self.shared.changed.wait_timeout_while(state, grace, |s| !s.closed).unwrap_or_else(PoisonError::into_inner),
        );
        self.status.expect("ended above")
    }

    /// Waits for the end; gives the exit code, or 128 + the signal like a shell.
    #[track_caller]
    pub fn exit_code(&mut self, limit: Duration) -> i32 {
        let status = self.wait(limit);
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// A picture of the screen on a dark terminal.
    pub fn picture(&self) -> Picture {
        self.picture_in(Theme::DARK)
    }

    /// A picture of the screen in these colours.
    pub fn picture_in(&self, theme: Theme) -> Picture {
        let screen = self.shared.lock().parser.screen().clone();
        Picture::of(&screen, theme)
    }

    /// Saves a picture as PNG.
    pub fn screenshot(&self, path: impl AsRef<Path>) {
        self.picture().save(path);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- terminal {} ---\n{}", self.name.display(), self.screen());
        }
        self.hang_up();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_slave(name: &Path, owner: u32) -> File {
    let noctty = nix::fcntl::OFlag::O_NOCTTY.bits();
    let open = OpenOptions::new().read(true).write(true).custom_flags(noctty).open(name);
    let slave = open.unwrap_or_else(|e| panic!("{}: {e}", name.display()));
    if nix::unistd::geteuid().is_root() {
        // As login does: the terminal belongs to whoever sits at it, group tty.
        fchown(&slave, Some(owner), Some(5)).expect("owning the terminal");
        slave.set_permissions(PermissionsExt::from_mode(0o620)).expect("its mode");
    }
    slave
}

fn set_size(master: impl AsFd, (rows, cols): Size) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("the window size");
}

/// Feeds the parser until the terminal closes or the other end of `ended` does.
fn read_screen(mut master: File, ended: PipeReader, shared: &Shared) {
    let mut buffer = [0; 8192];
    let ended: OwnedFd = ended.into();
    loop {
        let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        let polled = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any().unwrap_or(false) {
            break;
        }
        if polled.is_err() {
            continue; // interrupted
        }
        match master.read(&mut buffer) {
            Ok(n @ 1..) => {
                let mut state = shared.lock();
                state.raw.extend_from_slice(&buffer[..n]);
                state.parser.process(&buffer[..n]);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // EIO: nobody has the other side open any more.
            Ok(_) | Err(_) => break,
        }
        shared.changed.notify_all();
    }
    shared.lock().closed = true;
    shared.changed.notify_all();
}
