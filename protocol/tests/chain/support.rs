//! A roster of four approvers (bob, carol, dave, erin) and the head of its chain.

use twinlock_protocol::UnixTime;
use twinlock_protocol::ids::{CaId, DeviceId, GroupName, PersonId};
use twinlock_protocol::roster::{Device, Person, Roster, RosterEnvelope, RosterError, VerifiedRoster};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::softphone::{Fixture, Phone, person};

pub const NOW: UnixTime = UnixTime(1_800_000_000);

pub struct Scene {
    pub fixture: Fixture,
    pub head: VerifiedRoster,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(&["erin"])
    }

    /// With these approvers besides bob, carol and dave.
    pub fn with(names: &[&str]) -> Self {
        let mut fixture = Fixture::new(b"a CA", NOW);
        for name in names {
            let phone = Phone::new(name, &format!("{name}-phone"));
            fixture.roster.persons.push(approver(name, phone.device.clone()));
            fixture.phones.push(phone);
        }
        let (_, head) = fixture.seal();
        Self { fixture, head }
    }

    /// What becomes of a step with these signers.
    pub fn judge(&self, signers: &[&str], edit: impl FnOnce(&mut Roster)) -> Result<VerifiedRoster, RosterError> {
        let next = Fixture::next(&self.head, edit);
        self.head.successor(&self.fixture.envelope(&self.head, &next, signers))
    }

    /// A lawful step.
    pub fn step(&mut self, signers: &[&str], edit: impl FnOnce(&mut Roster)) -> (RosterEnvelope, VerifiedRoster) {
        let (envelope, head) = self.fixture.step(&self.head, signers, edit);
        self.head = head.clone();
        (envelope, head)
    }
}

pub fn approver(name: &str, device: Device) -> Person {
    person(name, &["approvers"], vec![device])
}

pub fn person_mut<'a>(roster: &'a mut Roster, name: &str) -> &'a mut Person {
    roster.persons.iter_mut().find(|person| person.id.as_str() == name).unwrap()
}

pub fn id(text: &str) -> PersonId {
    PersonId::new(text).unwrap()
}

pub fn device_id(text: &str) -> DeviceId {
    DeviceId::new(text).unwrap()
}

pub fn group(text: &str) -> GroupName {
    GroupName::new(text).unwrap()
}

pub fn ca(text: &str) -> CaId {
    CaId::new(text).unwrap()
}

/// The other point of the curve with this key's x: whoever holds one's private half holds both.
pub fn mirrored(key: &PublicKey) -> PublicKey {
    let mut mirrored = *key;
    let p = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    let mut borrow = 0_i32;
    for at in (0..32).rev() {
        let difference = i32::from(p[at] as u8) - i32::from(key.0[33 + at]) - borrow;
        borrow = i32::from(difference < 0);
        mirrored.0[33 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    mirrored
}
