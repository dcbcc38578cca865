//! `pam_twinlock.so`, the enforcement point: six hooks that collect arguments and hand over to
//! `account` and `session`. Whatever is not understood, missing, late, broken or panicking is a
//! refusal; no hook ever returns PAM_IGNORE, PAM_NEW_AUTHTOK_REQD or PAM_SESSION_ERR, after each of
//! which sudo was seen to run the command.
#![deny(unsafe_code)]

mod account;
mod ask;
mod break_glass;
mod cgroup;
mod clock;
pub mod command_line;
mod config;
mod conversation;
mod facts;
mod grant_store;
mod handle;
mod journal;
mod link;
mod qr;
mod reason;
mod refusal;
pub mod roster_slots;
mod rosters;
mod screen;
mod session;
mod session_key;
pub mod settings;
mod signals;
mod stdio;
mod terminal;
pub mod trusted;
mod verify;
mod who;

#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::path::Path;
use std::sync::Once;

use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};
use twinlock_protocol::DenyReason;
use twinlock_protocol::refusal::PamOutcome;

use crate::account::{Outcome, World};
use crate::facts::Facts;
use crate::handle::Handle;
use crate::refusal::Refusal;
use crate::stdio::StandardFiles;
use crate::terminal::Terminal;
use crate::trusted::Owner;
use crate::who::HostAccounts;

struct Twinlock;
pam::pam_hooks!(Twinlock);

impl PamHooks for Twinlock {
    fn acct_mgmt(handle: &mut PamHandle, arguments: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        hook("account", handle, |handle, world| {
            let caller = facts::caller()?;
            account::account(handle, world, caller, &arguments)
        })
    }

    fn sm_open_session(handle: &mut PamHandle, _arguments: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        let code = hook("open_session", handle, |handle, world| {
            let caller = facts::caller()?;
            session::open_session(handle, world, &caller)
        });
        // Whatever the reason says about `account`, here there is one way to say no.
        if code == PamResultCode::PAM_SUCCESS { code } else { PamResultCode::PAM_PERM_DENIED }
    }

    /// Never a door, wherever the line stands: a `sufficient` one must not let anybody in.
    fn sm_authenticate(handle: &mut PamHandle, _arguments: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        hook("authenticate", handle, |_, _| {
            Err(Refusal::logging(
                DenyReason::ConfigInvalid,
                "the module stands in auth; it belongs to account and session",
            ))
        });
        PamResultCode::PAM_ABORT
    }

    fn sm_setcred(_handle: &mut PamHandle, _arguments: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        PamResultCode::PAM_SUCCESS
    }

    fn sm_close_session(_handle: &mut PamHandle, _arguments: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        PamResultCode::PAM_SUCCESS
    }

    fn sm_chauthtok(_handle: &mut PamHandle, _arguments: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        PamResultCode::PAM_ABORT
    }
}

/// Runs one hook in the real world, tells a refusal, and turns the result into PAM's.
fn hook(
    name: &str,
    handle: &mut PamHandle,
    body: impl FnOnce(&mut Handle<'_>, &World<'_>) -> Result<Outcome, Refusal>,
) -> PamResultCode {
    silence_panics();
    let _standard_files = StandardFiles::hold();
    let mut handle = Handle::new(handle);
    let world = World {
        accounts: &HostAccounts,
        config: Path::new(config::PATH),
        owner: Owner::ROOT,
        facts: &Facts::read,
        terminal: &Terminal::open,
        contain: &session::contain,
        opened: &session::opened,
    };
    match body(&mut handle, &world) {
        Ok(Outcome::Allowed) => PamResultCode::PAM_SUCCESS,
        Err(refusal) => {
            refusal.tell(&mut handle);
            journal::refused(name, &refusal);
            match refusal.outcome() {
                PamOutcome::PermDenied => PamResultCode::PAM_PERM_DENIED,
                PamOutcome::Abort => PamResultCode::PAM_ABORT,
            }
        }
    }
}

/// The default hook would print source paths and values to the requester's terminal. The panic
/// itself becomes PAM_ABORT in the bindings' entry points.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}
