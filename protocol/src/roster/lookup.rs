//! What decisions ask a roster: who a login is, who owns a credential, which gate decides, who may
//! approve behind it.

use std::collections::BTreeSet;

use super::{Device, Gate, Host, Person, PersonKind, Roster, Standing};
use crate::ids::{CredentialId, GroupName, HostId, PersonId};
use crate::refusal::DenyReason;
use crate::request::{Login, Requester, Target};
use crate::signature::PublicKey;

impl Roster {
    /// The person with this id.
    #[must_use]
    pub fn person(&self, id: &PersonId) -> Option<&Person> {
        self.persons.iter().find(|person| person.id == *id)
    }

    /// The host with this id.
    #[must_use]
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == *id)
    }

    /// The device with this credential, and whose it is.
    #[must_use]
    pub fn device_by_credential(&self, credential: &CredentialId) -> Option<(&Person, &Device)> {
        self.persons.iter().find_map(|person| {
            let device = person.devices.iter().find(|device| device.credential_id == *credential)?;
            Some((person, device))
        })
    }

    /// The device key beside this passkey: what a new record of the passkey takes the place of.
    #[must_use]
    pub fn device_key_beside(&self, credential: &CredentialId) -> Option<PublicKey> {
        self.device_by_credential(credential).and_then(|(_, device)| device.device_key)
    }

    /// The origin that QRs lead to.
    #[must_use]
    pub fn qr_origin(&self) -> Option<&str> {
        self.origins.first().map(String::as_str)
    }

    fn person_of_login(&self, login: &str) -> Option<&Person> {
        self.persons.iter().find(|person| person.logins.iter().any(|known| known == login))
    }

    /// Everybody that the requester's names and uids stand for; they are excluded as approvers.
    ///
    /// # Errors
    /// [`DenyReason::RequesterUnknown`] when a name maps to nobody, [`DenyReason::RequesterMayNotAsk`]
    /// when a person may not ask or is suspended.
    pub fn requester_persons(&self, host: &HostId, requester: &Requester) -> Result<Vec<&Person>, DenyReason> {
        let names = requester
            .login
            .iter()
            .map(|login| login.name.as_str())
            .chain([requester.real.name.as_str()])
            .chain(requester.pam_ruser.as_deref());
        let mut persons = Vec::new();
        for name in names {
            insert_once(&mut persons, self.person_of_login(name).ok_or(DenyReason::RequesterUnknown)?);
        }
        let uids = |login: &Login| {
            let entry = self.uids.iter().find(|entry| entry.host == *host && entry.uid == login.uid)?;
            self.person(&entry.person)
        };
        for person in requester.login.iter().chain([&requester.real]).filter_map(uids) {
            insert_once(&mut persons, person);
        }
        if persons.iter().all(|person| person.may_ask()) { Ok(persons) } else { Err(DenyReason::RequesterMayNotAsk) }
    }

    /// Everybody who may not approve for these requesters: themselves, and the owners of services.
    #[must_use]
    pub fn excluded(&self, requesters: &[&Person]) -> Vec<PersonId> {
        let owner = |person: &&Person| match &person.kind {
            PersonKind::Human(_) => None,
            PersonKind::Service(service) => Some(service.owner.clone()),
        };
        let mut excluded: Vec<PersonId> = requesters.iter().map(|person| person.id.clone()).collect();
        excluded.extend(requesters.iter().filter_map(owner));
        excluded
    }

    /// The gate that decides about this host and target: the first that covers both.
    #[must_use]
    pub fn gate(&self, host: &Host, target: &Target) -> Option<&Gate> {
        // uid 0 under another name is root, and so, as good as, is somebody with the group disk or
        // shadow: neither finds a laxer gate than root does.
        let is_root = target.uid == 0 || target.group.is_some();
        let user = if is_root { "root".to_owned() } else { target.user.clone() };
        self.rules.gates.iter().find(|gate| gate.hosts.holds_one_of(&host.groups) && gate.targets.holds(&user))
    }

    fn has_device_that_counts(&self, person: &Person) -> bool {
        person.devices.iter().any(|device| self.rules.check_device(device).is_ok())
    }

    /// Whether no two of this gate's people can say yes together.
    #[must_use]
    pub fn is_dry(&self, gate: &Gate) -> bool {
        !self.rules.holds_two_for_a_yes(&self.eligible(gate, &[]))
    }

    /// Everybody who can approve somewhere now, and so can sign the next roster.
    #[must_use]
    pub fn approvers(&self) -> Vec<&Person> {
        let groups: BTreeSet<&str> =
            self.rules.gates.iter().flat_map(|gate| &gate.approvers).map(GroupName::as_str).collect();
        let approves = |person: &&Person| {
            person.standing == Standing::Active
                && person.groups.iter().any(|group| groups.contains(group.as_str()))
                && self.has_device_that_counts(person)
        };
        self.persons.iter().filter(approves).collect()
    }

    /// Everybody who may approve behind this gate, but for `excluded`.
    #[must_use]
    pub fn eligible<'a>(&'a self, gate: &Gate, excluded: &[PersonId]) -> Vec<&'a Person> {
        self.persons
            .iter()
            .filter(|person| {
                !excluded.contains(&person.id)
                    && person.standing == Standing::Active
                    && gate.approvers.iter().any(|group| person.groups.contains(group))
                    && self.has_device_that_counts(person)
            })
            .collect()
    }
}

/// Puts a person into a short list that is in the order of ids, if it is not there. Sorting it would
/// cost the PAM module a sort for this very type.
pub(crate) fn insert_once<'a>(persons: &mut Vec<&'a Person>, person: &'a Person) {
    if let Err(at) = persons.binary_search_by(|other| other.id.cmp(&person.id)) {
        persons.insert(at, person);
    }
}
