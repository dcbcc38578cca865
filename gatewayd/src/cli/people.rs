//! Who takes part in a ceremony, as an administrator writes it: `--person` flags or a TOML file.

use std::path::Path;

use serde::Deserialize;
use twinlock_protocol::ids::{GroupName, PersonId};

use super::Failure;
use crate::enrol::compose::{Participant, Role};

const FORM: &str = "write --person \"bob=Bob Jones:bob,bjones:approver\" (ID=NAME:LOGIN,LOGIN:approver|requester|both)";

/// `[[person]]` tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    person: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: PersonId,
    name: String,
    logins: Vec<String>,
    role: Role,
    #[serde(default)]
    groups: Vec<GroupName>,
    #[serde(default)]
    owner: Option<PersonId>,
}

/// Reads one `--person` flag.
///
/// # Errors
/// A [`Failure`] that shows the form.
pub fn flag(text: &str) -> Result<Participant, Failure> {
    let wrong = || Failure::new(format!("cannot read the person {text}"), FORM);
    let (id, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (rest, role) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let (name, logins) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let role = match role {
        "approver" => Role::Approver,
        "requester" => Role::Requester,
        "both" => Role::Both,
        _ => return Err(wrong()),
    };
    let id = PersonId::new(id).ok_or_else(|| {
        Failure::new(format!("{id} is no id"), "an id is lower-case letters, digits, dot, dash and underscore")
    })?;
    let logins: Vec<String> =
        logins.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    Ok(Participant { id, name: name.trim().to_owned(), logins, role, groups: Vec::new(), owner: None })
}

/// Reads a file of `[[person]]` tables.
///
/// # Errors
/// A [`Failure`] with line and key.
pub fn file(path: &Path) -> Result<Vec<Participant>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::plain(format!("cannot read {}: {error}", path.display())))?;
    let file: File = toml::from_str(&text).map_err(|error| Failure::plain(format!("{}: {error}", path.display())))?;
    let participant = |entry: Entry| {
        let Entry { id, name, logins, role, groups, owner } = entry;
        Participant { id, name, logins, role, groups, owner }
    };
    Ok(file.person.into_iter().map(participant).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_person_is_read_from_a_flag() {
        let bob = flag("bob=Bob: the Builder Jones:bob, bjones:both").unwrap();
        assert_eq!((bob.id.as_str(), bob.name.as_str()), ("bob", "Bob: the Builder Jones"));
        assert_eq!((bob.logins, bob.role), (vec!["bob".to_owned(), "bjones".to_owned()], Role::Both));
        assert_eq!(flag("dave=Dave::approver").unwrap().logins, Vec::<String>::new());
        for wrong in ["", "bob", "bob=Bob", "bob=Bob:bob", "bob=Bob:bob:admin", "Bob=Bob:bob:both", "=Bob:bob:both"] {
            assert!(flag(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn people_are_read_from_a_file_and_unknown_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            file(&path)
        };
        let bob = "[[person]]\nid = \"bob\"\nname = \"Bob\"\nlogins = [\"bob\"]\nrole = \"approver\"\n";
        assert_eq!(read(bob).unwrap().len(), 1);
        let service = format!(
            "{bob}[[person]]\nid = \"ci\"\nname = \"CI\"\nlogins = [\"ci\"]\nrole = \"requester\"\nowner = \"bob\"\n"
        );
        assert_eq!(read(&service).unwrap()[1].owner, PersonId::new("bob"));
        assert!(read(&format!("{bob}admin = true\n")).unwrap_err().line.contains("admin"));
        assert!(read("").is_err());
    }
}
