//! What the module needs from PAM, as a small trait, so that everything below is ordinary Rust
//! that tests can script. The real one is in `handle`.
#![forbid(unsafe_code)]

/// The application gave no answer to a question: no terminal, a time-out, or Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// One PAM transaction as the module sees it. Items are copied out: nothing borrowed from libpam
/// lives across a call.
pub trait Conversation {
    /// Shows text, as `PAM_ERROR_MSG` whatever `PAM_SILENT` says: `PAM_TEXT_INFO` goes to stdout
    /// without a terminal. The application adds the last line's end. Failure to show is not an
    /// error: the wait goes on, and can still be denied.
    fn tell(&mut self, text: &str);
    /// Asks one question with echo.
    ///
    /// # Errors
    /// [`Unanswered`].
    fn ask(&mut self, question: &str) -> Result<String, Unanswered>;
    /// `PAM_SERVICE`.
    fn service(&self) -> Option<String>;
    /// `PAM_USER`: in sudo the invoker in `account` and the target in `open_session`; in su the
    /// target throughout.
    fn user(&self) -> Option<String>;
    /// `PAM_RUSER`: `Some(Err)` when it is set but not text.
    fn ruser(&self) -> Option<Result<String, NotText>>;
}

/// A PAM item is set, but is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;
