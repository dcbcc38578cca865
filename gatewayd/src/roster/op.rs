//! What people want changed in a roster, as operations that are applied to whatever version is the
//! head at the moment: a proposal keeps these, so that it can be recomputed when the head moves. Pure.
//! An operation that does not fit the roster is refused, never skipped.

use serde::{Deserialize, Serialize};
use twinlock_protocol::Digest;
use twinlock_protocol::UnixTime;
use twinlock_protocol::ids::{CaId, DeviceId, GroupName, HostId, PersonId};
use twinlock_protocol::roster::{
    BreakGlassKey, Ca, Device, GatewayEntry, Host, Person, Roster, Rules, Standing, Suspension, UidEntry,
    VerifiedRoster,
};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::statement::SignedStatement;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// A new person, with devices or without.
    AddPerson {
        /// As it will stand in the roster.
        person: Box<Person>,
    },
    /// A person leaves; their devices, break-glass keys and uid entries leave with them.
    RemovePerson {
        /// Who.
        person: PersonId,
    },
    /// What is known of a person changes; what is none stays as it is.
    EditPerson {
        /// Who.
        person: PersonId,
        /// The name that people know.
        name: Option<String>,
        /// Login names.
        logins: Option<Vec<String>>,
        /// Groups.
        groups: Option<Vec<GroupName>>,
        /// May ask for elevation.
        may_request: Option<bool>,
    },
    /// A device of a person who is in the roster already.
    AddDevice {
        /// Whose.
        person: PersonId,
        /// As it will stand in the roster.
        device: Box<Device>,
        /// Its possession statement.
        possession: Box<SignedStatement>,
    },
    /// A device leaves: lost, sold, broken.
    RemoveDevice {
        /// Whose.
        person: PersonId,
        /// Which.
        device: DeviceId,
    },
    /// A browser dropped a device key and made another, under the same passkey.
    RestoreDeviceKey {
        /// Whose.
        person: PersonId,
        /// Which device.
        device: DeviceId,
        /// Its new key.
        device_key: PublicKey,
        /// Signed by the passkey and the new key.
        possession: Box<SignedStatement>,
    },
    /// Somebody stops counting.
    Suspend {
        /// Who.
        person: PersonId,
        /// The one who does it alone; none when two sign.
        by: Option<PersonId>,
    },
    /// Somebody counts again.
    Lift {
        /// Who.
        person: PersonId,
    },
    /// A host joins.
    AddHost {
        /// As it will stand in the roster.
        host: Host,
    },
    /// A host leaves; uid entries on it leave with it.
    RemoveHost {
        /// Which.
        host: HostId,
    },
    /// A uid on a host is a person.
    AddUid {
        /// Which, and who.
        uid: UidEntry,
    },
    /// An elevation CA comes.
    AddCa {
        /// Its entry.
        ca: Ca,
    },
    /// An elevation CA goes.
    RemoveCa {
        /// Which.
        ca: CaId,
    },
    /// A gateway comes.
    AddGateway {
        /// Its entry.
        gateway: GatewayEntry,
    },
    /// A gateway goes.
    RemoveGateway {
        /// Its key.
        key: Digest,
    },
    /// Somebody gets a key for when no gateway can be reached.
    AddBreakGlassKey {
        /// Its entry.
        key: BreakGlassKey,
    },
    /// Such a key goes.
    RemoveBreakGlassKey {
        /// Which.
        key: PublicKey,
    },
    /// The rules of T1 change.
    SetRules {
        /// All of them.
        rules: Box<Rules>,
    },
    /// A later end.
    Renew {
        /// The new end.
        expires_at: UnixTime,
    },
    /// A whole roster that somebody edited, made from the version that it names as `base`.
    Replace {
        /// The digest of the version that was edited.
        base: Digest,
        /// The result; version, previous and issued_at are set anew.
        roster: Box<Roster>,
    },
}

/// An operation does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// There is nobody of this id.
    #[error("the roster has no person {0}")]
    NoPerson(PersonId),
    /// The id is taken.
    #[error("the roster has a person {0} already")]
    PersonExists(PersonId),
    /// There is no such device.
    #[error("{0} has no device {1}")]
    NoDevice(PersonId, DeviceId),
    /// There is no such host.
    #[error("the roster has no host {0}")]
    NoHost(HostId),
    /// The id is taken.
    #[error("the roster has a host {0} already")]
    HostExists(HostId),
    /// There is no such CA.
    #[error("the roster has no CA {0}")]
    NoCa(CaId),
    /// There is no such gateway.
    #[error("the roster has no gateway with this key")]
    NoGateway,
    /// There is no such key.
    #[error("the roster has no such break-glass key")]
    NoBreakGlassKey,
    /// Already so.
    #[error("{0} is suspended already")]
    Suspended(PersonId),
    /// Not so.
    #[error("{0} is not suspended")]
    NotSuspended(PersonId),
    /// The edited roster was made from another version.
    #[error("the roster has changed since it was taken to be edited")]
    OtherBase,
    /// A device came without its owner's word.
    #[error("device {0} did not prove possession of its keys; people enrol devices by an invite")]
    NoPossession(DeviceId),
    /// Nothing would change.
    #[error("nothing would change")]
    Nothing,
    /// The outcome breaks a rule of rosters.
    #[error(transparent)]
    Unsound(#[from] twinlock_protocol::roster::RosterError),
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The next version, sound.
    pub roster: Roster,
    /// The possession statements of its new devices.
    pub possessions: Vec<SignedStatement>,
}

/// Applies operations, in order, to the head. `now` becomes `issued_at`.
///
/// # Errors
/// [`OpError`]: the first operation that does not fit, or the rule that the outcome breaks.
pub fn apply(head: &VerifiedRoster, ops: &[Op], now: UnixTime) -> Result<Outcome, OpError> {
    let mut next = head.roster().clone();
    let mut possessions = Vec::new();
    for op in ops {
        apply_one(&mut next, &mut possessions, op, head)?;
    }
    let mut same = next.clone();
    (same.version, same.previous, same.issued_at) = (head.version, head.previous, head.issued_at);
    if same == *head.roster() {
        return Err(OpError::Nothing);
    }
    next.version = head.version.saturating_add(1);
    next.previous = Some(head.digest());
    next.issued_at = now.max(head.issued_at);
    next.check()?;
    let possessions = in_order(head, &next, &possessions)?;
    Ok(Outcome { roster: next, possessions })
}

fn apply_one(
    next: &mut Roster,
    possessions: &mut Vec<SignedStatement>,
    op: &Op,
    head: &VerifiedRoster,
) -> Result<(), OpError> {
    match op {
        Op::AddPerson { person } => {
            if next.person(&person.id).is_some() {
                return Err(OpError::PersonExists(person.id.clone()));
            }
            next.persons.push((**person).clone());
        }
        Op::RemovePerson { person } => {
            person_mut(next, person)?;
            next.persons.retain(|one| one.id != *person);
            next.uids.retain(|entry| entry.person != *person);
            next.break_glass_keys.retain(|one| one.person != *person);
            // Who suspended somebody alone and left is nobody to refer to: two signed this.
            for one in &mut next.persons {
                if one.standing.suspended_alone_by() == Some(person) {
                    one.standing = Standing::Suspended(Suspension { by: None });
                }
            }
        }
        Op::EditPerson { person, name, logins, groups, may_request } => {
            let one = person_mut(next, person)?;
            name.clone_into_if(&mut one.name);
            logins.clone_into_if(&mut one.logins);
            groups.clone_into_if(&mut one.groups);
            may_request.clone_into_if(&mut one.may_request);
        }
        Op::AddDevice { person, device, possession } => {
            person_mut(next, person)?.devices.push((**device).clone());
            possessions.push((**possession).clone());
        }
        Op::RemoveDevice { person, device } => {
            device_mut(next, person, device)?;
            person_mut(next, person)?.devices.retain(|one| one.id != *device);
        }
        Op::RestoreDeviceKey { person, device, device_key, possession } => {
            device_mut(next, person, device)?.device_key = Some(*device_key);
            possessions.push((**possession).clone());
        }
        Op::Suspend { person, by } => {
            let one = person_mut(next, person)?;
            if one.standing != Standing::Active {
                return Err(OpError::Suspended(person.clone()));
            }
            one.standing = Standing::Suspended(Suspension { by: by.clone() });
        }
        Op::Lift { person } => {
            let one = person_mut(next, person)?;
            if one.standing == Standing::Active {
                return Err(OpError::NotSuspended(person.clone()));
            }
            one.standing = Standing::Active;
        }
        Op::AddHost { host } => {
            if next.host(&host.id).is_some() {
                return Err(OpError::HostExists(host.id.clone()));
            }
            next.hosts.push(host.clone());
        }
        Op::RemoveHost { host } => {
            next.host(host).ok_or_else(|| OpError::NoHost(host.clone()))?;
            next.hosts.retain(|one| one.id != *host);
            next.uids.retain(|entry| entry.host != *host);
        }
        Op::AddUid { uid } => next.uids.push(uid.clone()),
        // The newest first: that is the one that gateways issue with.
        Op::AddCa { ca } => next.cas.insert(0, ca.clone()),
        Op::RemoveCa { ca } => {
            let before = next.cas.len();
            next.cas.retain(|one| one.id != *ca);
            if next.cas.len() == before {
                return Err(OpError::NoCa(ca.clone()));
            }
        }
        Op::AddGateway { gateway } => next.gateways.push(gateway.clone()),
        Op::RemoveGateway { key } => {
            let before = next.gateways.len();
            next.gateways.retain(|one| one.key != *key);
            if next.gateways.len() == before {
                return Err(OpError::NoGateway);
            }
        }
        Op::AddBreakGlassKey { key } => next.break_glass_keys.push(key.clone()),
        Op::RemoveBreakGlassKey { key } => {
            let before = next.break_glass_keys.len();
            next.break_glass_keys.retain(|one| one.key != *key);
            if next.break_glass_keys.len() == before {
                return Err(OpError::NoBreakGlassKey);
            }
        }
        Op::SetRules { rules } => next.rules = (**rules).clone(),
        Op::Renew { expires_at } => next.expires_at = *expires_at,
        Op::Replace { base, roster } => {
            if *base != head.digest() {
                return Err(OpError::OtherBase);
            }
            *next = (**roster).clone();
        }
    }
    Ok(())
}

/// One possession statement for each device that is new, in the roster's order; each verifies.
fn in_order(
    head: &VerifiedRoster,
    next: &Roster,
    possessions: &[SignedStatement],
) -> Result<Vec<SignedStatement>, OpError> {
    let mut ordered = Vec::new();
    for (person, device) in head.new_devices(next)? {
        let own = possessions.iter().find(|signed| head.verify_possession(&person.id, device, signed).is_ok());
        ordered.push(own.ok_or_else(|| OpError::NoPossession(device.id.clone()))?.clone());
    }
    Ok(ordered)
}

trait CloneIntoIf<T> {
    fn clone_into_if(&self, to: &mut T);
}

impl<T: Clone> CloneIntoIf<T> for Option<T> {
    fn clone_into_if(&self, to: &mut T) {
        if let Some(value) = self {
            to.clone_from(value);
        }
    }
}

fn person_mut<'r>(roster: &'r mut Roster, id: &PersonId) -> Result<&'r mut Person, OpError> {
    roster.persons.iter_mut().find(|one| one.id == *id).ok_or_else(|| OpError::NoPerson(id.clone()))
}

fn device_mut<'r>(roster: &'r mut Roster, person: &PersonId, device: &DeviceId) -> Result<&'r mut Device, OpError> {
    let missing = || OpError::NoDevice(person.clone(), device.clone());
    person_mut(roster, person)?.devices.iter_mut().find(|one| one.id == *device).ok_or_else(missing)
}

impl Op {
    /// One line for lists, in words that anybody may hear; names are escaped where they are shown.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::AddPerson { person } => format!("add {}", person.name),
            Self::RemovePerson { person } => format!("remove {person}"),
            Self::EditPerson { person, .. } => format!("change {person}"),
            Self::AddDevice { person, device, .. } => format!("add a device of {person}: {}", device.label),
            Self::RemoveDevice { person, device } => format!("remove device {device} of {person}"),
            Self::RestoreDeviceKey { person, device, .. } => format!("a new device key for {device} of {person}"),
            Self::Suspend { person, .. } => format!("suspend {person}"),
            Self::Lift { person } => format!("lift the suspension of {person}"),
            Self::AddHost { host } => format!("add host {}", host.name),
            Self::RemoveHost { host } => format!("remove host {host}"),
            Self::AddUid { uid } => format!("uid {} on {} is {}", uid.uid, uid.host, uid.person),
            Self::AddCa { ca } => format!("add CA {}", ca.id),
            Self::RemoveCa { ca } => format!("remove CA {ca}"),
            Self::AddGateway { gateway } => format!("add gateway {}", gateway.address),
            Self::RemoveGateway { .. } => "remove a gateway".to_owned(),
            Self::AddBreakGlassKey { key } => format!("add a break-glass key of {}", key.person),
            Self::RemoveBreakGlassKey { .. } => "remove a break-glass key".to_owned(),
            Self::SetRules { .. } => "change the rules".to_owned(),
            Self::Renew { .. } => "renew the roster".to_owned(),
            Self::Replace { .. } => "an edited roster".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
