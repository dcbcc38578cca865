//! Who is asked, and who asks. A pass exists only for root's own sudo and su, and in su for the
//! same user; never for the same user in sudo (`sudo -g disk` is root by another name), never for
//! a service that this file does not name. The same rule decides in `account` and, afresh, in
//! `open_session`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use twinlock_protocol::request::{Login, Requester};
use twinlock_protocol::{DenyReason, limits};

use crate::command_line::FrontEnd;
use crate::conversation::{Conversation, NotText};
use crate::refusal::Refusal;

/// An entry of the host's passwd database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its uid.
    pub uid: u32,
    /// Its login name.
    pub name: String,
    /// Its shell.
    pub shell: PathBuf,
}

/// The host's passwd database.
pub trait Accounts {
    /// The entry with this uid.
    fn by_uid(&self, uid: u32) -> Option<Account>;
    /// The entry with this name.
    fn by_name(&self, name: &str) -> Option<Account>;
}

/// The real passwd database, through libc and NSS.
pub struct HostAccounts;

impl Accounts for HostAccounts {
    fn by_uid(&self, uid: u32) -> Option<Account> {
        nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(account)
    }

    fn by_name(&self, name: &str) -> Option<Account> {
        nix::unistd::User::from_name(name).ok().flatten().map(account)
    }
}

fn account(user: nix::unistd::User) -> Account {
    Account { uid: user.uid.as_raw(), name: user.name, shell: user.shell }
}

/// Whether anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Root's own, or su to oneself: nothing is gained by it.
    Passes = 0x5a3c_0f01,
    /// sudo or sudo-i: two people are asked.
    AsksForSudo = 0x2d71_e6b2,
    /// su or su-l: two people are asked.
    AsksForSu = 0x71c8_934d,
}

impl Decision {
    /// Whose command line is to be read.
    #[must_use]
    pub fn front_end(self) -> Option<FrontEnd> {
        match self {
            Self::Passes => None,
            Self::AsksForSudo => Some(FrontEnd::Sudo),
            Self::AsksForSu => Some(FrontEnd::Su),
        }
    }
}

/// What the kernel says about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The real uid.
    pub real_uid: u32,
    /// The audit login uid, when it is set.
    pub login_uid: Option<u32>,
    /// The file name of `/proc/self/exe`.
    pub program: Vec<u8>,
}

/// Decides by service and real uid.
///
/// # Errors
/// [`DenyReason::ServiceUnknown`] for any service but sudo, sudo-i, su and su-l, and for one of
/// su's in a program that calls itself sudo (`Defaults pam_service=su` would make the same-user
/// rule a hole); [`DenyReason::Internal`] when PAM says no user.
pub fn decide(conversation: &dyn Conversation, accounts: &dyn Accounts, caller: &Caller) -> Result<Decision, Refusal> {
    let unknown = || Refusal::from(DenyReason::ServiceUnknown);
    let decision = match conversation.service().as_deref() {
        Some("sudo" | "sudo-i") => Decision::AsksForSudo,
        Some("su" | "su-l") => Decision::AsksForSu,
        Some(_) | None => return Err(unknown()),
    };
    let is_sudo = caller.program.windows(4).any(|part| part == b"sudo");
    if decision == Decision::AsksForSu && is_sudo {
        return Err(unknown());
    }
    // sudoedit opens its session with real uid 0 whoever called it: PAM_RUSER must agree, and sudo
    // must have set it (`Defaults !pam_ruser`).
    let ruser_is_root = match conversation.ruser() {
        None => decision == Decision::AsksForSu,
        Some(Ok(name)) => accounts.by_name(&name).is_some_and(|account| account.uid == 0),
        Some(Err(NotText)) => false,
    };
    if caller.real_uid == 0 && ruser_is_root {
        return Ok(Decision::Passes);
    }
    // Both ways: another name of one's own uid may have another shell, or other groups.
    let target_is_self = || {
        let user = conversation.user()?;
        let same_uid = accounts.by_name(&user)?.uid == caller.real_uid;
        Some(same_uid && accounts.by_uid(caller.real_uid)?.name == user)
    };
    match decision {
        Decision::AsksForSu if target_is_self() == Some(true) => Ok(Decision::Passes),
        Decision::AsksForSu | Decision::AsksForSudo | Decision::Passes => Ok(decision),
    }
}

/// Every name of the requester that the host knows.
///
/// # Errors
/// [`DenyReason::RequesterUnknown`] when a uid has no name or `PAM_RUSER` is not one.
pub fn requester(
    conversation: &dyn Conversation,
    accounts: &dyn Accounts,
    caller: &Caller,
) -> Result<Requester, Refusal> {
    let unknown = |detail: String| Refusal::logging(DenyReason::RequesterUnknown, detail);
    let login = |uid: u32| {
        let account = accounts.by_uid(uid).ok_or_else(|| unknown(format!("uid {uid} has no passwd entry")))?;
        Ok::<_, Refusal>(Login { uid, name: account.name })
    };
    let pam_ruser = match conversation.ruser() {
        None => None,
        Some(Ok(name)) if (1..=limits::LOGIN_BYTES).contains(&name.len()) => Some(name),
        Some(Ok(_) | Err(NotText)) => return Err(unknown("PAM_RUSER is no login name".to_owned())),
    };
    Ok(Requester { login: caller.login_uid.map(login).transpose()?, real: login(caller.real_uid)?, pam_ruser })
}
