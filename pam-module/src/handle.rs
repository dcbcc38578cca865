//! The border to libpam, and the only file that may say `unsafe`: reading back our own data needs
//! it. Every function returns owned, checked values. Never: I/O in a `Drop` (su runs it twice, in
//! the child and in the parent), or an item's text held across a conversation.
#![allow(unsafe_code)]

use std::cell::RefCell;

use pam::constants::{PAM_ERROR_MSG, PAM_PROMPT_ECHO_ON};
use pam::conv::Conv;
use pam::items::{RUser, Service, User};
use pam::module::PamHandle;
use twinlock_protocol::DenyReason;

use crate::conversation::{Conversation, NotText, Unanswered};
use crate::grant_store::{GrantStore, Remembered};
use crate::refusal::Refusal;

/// The one key of our data. One key, one type: the version changes with [`Stored`].
const KEY: &str = "pam_twinlock_grant_v1";

/// What stands under [`KEY`]. The cell lets `take` empty it through the shared reference that
/// libpam allows.
struct Stored(RefCell<Option<Remembered>>);

/// A PAM handle for the length of one hook.
pub struct Handle<'a>(&'a mut PamHandle);

impl<'a> Handle<'a> {
    /// Borrows the handle that libpam gave to the hook.
    pub fn new(handle: &'a mut PamHandle) -> Self {
        Self(handle)
    }
}

impl Conversation for Handle<'_> {
    fn tell(&mut self, text: &str) {
        // A NUL would make the binding refuse the message; nothing we print holds one.
        if let Ok(Some(conversation)) = self.0.get_item::<Conv<'_>>() {
            let _shown_or_not = conversation.send(PAM_ERROR_MSG, text);
        }
    }

    fn ask(&mut self, question: &str) -> Result<String, Unanswered> {
        let conversation = self.0.get_item::<Conv<'_>>().ok().flatten().ok_or(Unanswered)?;
        let answer = conversation.send(PAM_PROMPT_ECHO_ON, question).ok().flatten().ok_or(Unanswered)?;
        answer.as_str().map(str::to_owned).map_err(|_| Unanswered)
    }

    fn service(&self) -> Option<String> {
        let item = self.0.get_item::<Service<'_>>().ok().flatten()?;
        item.to_str().ok().map(str::to_owned)
    }

    fn user(&self) -> Option<String> {
        let item = self.0.get_item::<User<'_>>().ok().flatten()?;
        item.to_str().ok().map(str::to_owned)
    }

    fn ruser(&self) -> Option<Result<String, NotText>> {
        match self.0.get_item::<RUser<'_>>() {
            Ok(None) => None,
            Ok(Some(item)) => Some(item.to_str().map(str::to_owned).map_err(|_| NotText)),
            Err(_) => Some(Err(NotText)),
        }
    }
}

impl GrantStore for Handle<'_> {
    fn remember(&mut self, what: Remembered) -> Result<(), Refusal> {
        self.0
            .set_data(KEY, Box::new(Stored(RefCell::new(Some(what)))))
            .map_err(|code| Refusal::logging(DenyReason::Internal, format!("pam_set_data: {code:?}")))
    }

    fn take(&mut self) -> Option<Remembered> {
        // SAFETY: `remember` above is the only writer under KEY in this module, and always stores a
        // `Stored`; the key's version changes with that type, and another copy of this module in
        // the stack is the same file. libpam guarantees that the pointer lives until it is
        // replaced or the handle ends, and both need the `&mut` that this call holds.
        let stored: &Stored = unsafe { self.0.get_data(KEY) }.ok()?;
        stored.0.replace(Some(Remembered::Asked))
    }
}
