//! What is wrong with this host, as findings: facts are gathered once into a plain struct, and each
//! check is a pure function of it. `twinlock enable` refuses over failures; nothing here changes
//! anything.

mod below;
pub mod checks;
pub mod facts;
mod flow;
mod pam;
mod report;
mod setuid;
mod stacks;
mod sudo;
pub mod sudoers;
mod survey;
mod system;
mod ways;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::report::{DoctorArgs, run};

/// Whether others than root can change what PAM asks for: `/etc/pam.d`, every file in it and in the
/// distribution's place.
#[must_use]
pub fn pam_owners(root: &Path) -> Vec<Finding> {
    stacks::owners(&stacks::Stacks::gather(&below::Below::new(root)))
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Worth changing.
    Warning,
    /// Elevation does not work, is not asked for, or would lock people out.
    Failure,
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// A stable name.
    pub id: &'static str,
    /// The file that it is about.
    pub file: Option<PathBuf>,
    /// The line there, from 1.
    pub line: Option<usize>,
    /// What is so; lower case, no full stop.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(id: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, id, file: None, line: None, what: what.into(), remedy: None }
    }

    /// Worth knowing, with what could be done.
    #[must_use]
    pub fn note(id: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::failure(id, what, remedy) }
    }

    /// Wrong, with what to do.
    #[must_use]
    pub fn failure(id: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Failure, remedy: Some(remedy.into()), ..Self::ok(id, what) }
    }

    /// Doubtful, with what to do.
    #[must_use]
    pub fn warning(id: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::failure(id, what, remedy) }
    }

    /// About this place.
    #[must_use]
    pub fn at(mut self, file: impl Into<PathBuf>, line: Option<usize>) -> Self {
        self.file = Some(file.into());
        self.line = line;
        self
    }

    /// `FILE:LINE: what`.
    #[must_use]
    pub fn to_line(&self) -> String {
        let place = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{}:{line}: ", file.display()),
            (Some(file), None) => format!("{}: ", file.display()),
            (None, _) => String::new(),
        };
        format!("{place}{}", self.what)
    }
}
