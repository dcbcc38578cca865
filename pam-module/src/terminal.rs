//! The controlling terminal: whether there is one, its size, and the input typed ahead. Text goes
//! by the PAM conversation, never through here.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::termios::{QueueSelector, tcflush, tcgetwinsize};

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

impl Size {
    /// What a terminal has that does not say.
    pub const USUAL: Self = Self { columns: 80, rows: 24 };
}

/// The controlling terminal.
pub struct Terminal {
    /// None in tests alone.
    device: Option<File>,
    /// What a device that does not say, or a test's terminal, is taken for.
    usual: Size,
}

impl Terminal {
    /// Opens `/dev/tty`; `None` when the process has no controlling terminal. (`PAM_TTY` is no
    /// proof of one.)
    #[must_use]
    pub fn open() -> Option<Self> {
        let flags = (OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
        let device = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty").ok()?;
        Some(Self { device: Some(device), usual: Size::USUAL })
    }

    /// A terminal of this size, for tests.
    #[cfg(test)]
    pub fn pretend(size: Size) -> Self {
        Self { device: None, usual: size }
    }

    /// Its size now.
    #[must_use]
    pub fn size(&self) -> Size {
        match self.device.as_ref().map(tcgetwinsize) {
            Some(Ok(size)) if size.ws_col > 0 && size.ws_row > 0 => {
                Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            Some(_) | None => self.usual,
        }
    }

    /// Throws away what was typed ahead: what was meant for this wait must not run as root after
    /// it.
    pub fn flush_input(&self) {
        if let Some(device) = &self.device {
            let _nothing_to_flush_is_fine = tcflush(device, QueueSelector::IFlush);
        }
    }

    /// The device once more, to hand to the reaper for its warnings: it can't read what is typed,
    /// and a terminal that is stopped doesn't hold it up.
    #[must_use]
    pub fn for_warnings(&self) -> Option<File> {
        self.device.as_ref()?;
        let flags = (OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed();
        File::options().write(true).custom_flags(flags).open("/dev/tty").ok()
    }
}
