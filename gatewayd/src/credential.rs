//! `credential:NAME` in place of a path: a file that systemd hands to a service (`LoadCredential=`,
//! `LoadCredentialEncrypted=`), which only root can read where it comes from. Only where a configuration
//! says so: no key is looked for in the environment by itself.

use std::path::{Component, Path, PathBuf};

const PREFIX: &str = "credential:";
/// Where systemd says that the credentials of this service are (systemd.exec(5)).
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The file that `path` means, for a key of the configuration that may name a credential.
///
/// # Errors
/// What must hold, when it is a credential that cannot be.
pub fn resolve(path: &Path) -> Result<PathBuf, &'static str> {
    resolve_below(path, std::env::var_os(DIRECTORY).map(PathBuf::from).as_deref())
}

/// Whether the configuration names a credential.
#[must_use]
pub fn is_credential(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with(PREFIX))
}

fn resolve_below(path: &Path, directory: Option<&Path>) -> Result<PathBuf, &'static str> {
    let Some(name) = path.to_str().and_then(|text| text.strip_prefix(PREFIX)) else { return Ok(path.to_owned()) };
    let mut parts = Path::new(name).components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name) {
        return Err("credential:NAME takes the name of one credential, not a path");
    }
    match directory {
        Some(directory) if directory.is_absolute() => Ok(directory.join(name)),
        Some(_) | None => Err("a credential comes from systemd: give the service LoadCredential=NAME:FILE"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_credential_is_a_file_of_the_directory_that_systemd_names() {
        let directory = Some(Path::new("/run/credentials/x.service"));
        let resolve = |text: &str| resolve_below(Path::new(text), directory);
        assert_eq!(resolve("credential:agent.key").unwrap(), Path::new("/run/credentials/x.service/agent.key"));
        for text in ["credential:", "credential:../x", "credential:/etc/shadow", "credential:a/b", "credential:a/"] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_stays_a_path_and_nothing_is_looked_for_unasked() {
        for text in ["/etc/twinlock/agent.key", "agent.key", "/credential:x"] {
            assert_eq!(resolve_below(Path::new(text), Some(Path::new("/run/c"))).unwrap(), Path::new(text));
            assert!(!is_credential(Path::new(text)));
        }
    }

    #[test]
    fn without_systemd_there_are_no_credentials() {
        assert!(resolve_below(Path::new("credential:x"), None).is_err());
        assert!(resolve_below(Path::new("credential:x"), Some(Path::new("relative"))).is_err());
        assert!(is_credential(Path::new("credential:x")), "control");
    }
}
