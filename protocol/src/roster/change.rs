//! Every difference between two rosters, in clear text: what people read before they sign. The page
//! computes the same list from the same bytes with its own code; both are held to the vectors in
//! `docs/vectors/roster-changes.json`. No difference may go unlisted, but for the version's number,
//! its predecessor and its date.
//!
//! Both rosters are laid out as lists of items, one list per section; an item has a subject, which
//! names it within its section, and named fields. Items of one subject are compared field by field.
//! Where what stays stands in another order, that is a change too.

use serde::{Deserialize, Serialize};

use super::{
    Assurance, BreakGlassKey, Ca, ClientClass, Device, Gate, Host, Person, PersonKind, Roster, Standing, Suspension,
    UidEntry, Which,
};
use crate::bytes::Fixed;
use crate::digest::Digest;
use crate::escape::{argument, visible};
use crate::words::words;

/// The subject under which another order of a section's items is listed. No item has it.
pub const ORDER: &str = "(order)";

/// What part of the roster changed. The order of this list is the order in which people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Persons; the subject is the id.
    Person,
    /// Devices; the subject is the id.
    Device,
    /// Hosts; the subject is the id.
    Host,
    /// Gateways; the subject is the address.
    Gateway,
    /// Numeric uids; the subject is `HOST UID`.
    Uid,
    /// Certification authorities; the subject is the id.
    Ca,
    /// Audit keys; the subject is the key, base64url.
    AuditKey,
    /// Break-glass keys; the subject is the key, base64url.
    BreakGlassKey,
    /// Gates; the subject is the position, from 1.
    Gate,
    /// The rules that are no gates; the subject is `rules`.
    Rules,
    /// What is left: RP id, origins, expiry; the subject is `roster`.
    Roster,
}

/// Whether an item came, went, or stayed with other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// Its fields differ.
    Changed,
}

/// A field's value as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// One value.
    Text(String),
    /// Several, in order.
    List(Vec<String>),
}

/// One field of an item that differs; of an item that came or went, every field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it was; none where the item or the value was not there.
    pub from: Option<Value>,
    /// What it becomes; none where the item or the value is not there any more.
    pub to: Option<Value>,
}

/// One item that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Which part of the roster.
    pub section: Section,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Which item.
    pub subject: String,
    /// What differs, in the order of the fields.
    pub fields: Vec<FieldChange>,
}

/// Every difference between two rosters, section by section: within each what went, in the old
/// order; then what came or changed, in the new order; then another order of what stayed.
#[must_use]
pub fn changes(old: &Roster, new: &Roster) -> Vec<Change> {
    let mut changes = Vec::new();
    for (section, layout) in SECTIONS {
        compare(section, &layout(old), &layout(new), &mut changes);
    }
    changes
}

impl Change {
    /// The change as one visible line, values with spaces in quotes, so that no name reads like a
    /// change of its own.
    #[must_use]
    pub fn to_line(&self) -> String {
        let kind = match self.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
        };
        let show = |value: &Option<Value>| match value {
            None => "none".to_owned(),
            Some(Value::Text(text)) => argument(text.as_bytes()),
            Some(Value::List(list)) if list.is_empty() => "none".to_owned(),
            Some(Value::List(list)) => list.iter().map(|one| argument(one.as_bytes())).collect::<Vec<_>>().join(", "),
        };
        let field = |one: &FieldChange| match self.kind {
            ChangeKind::Added => format!("{}: {}", one.field, show(&one.to)),
            ChangeKind::Removed => format!("{}: {}", one.field, show(&one.from)),
            ChangeKind::Changed => format!("{}: {} -> {}", one.field, show(&one.from), show(&one.to)),
        };
        let fields: Vec<String> = self.fields.iter().map(field).collect();
        let head = format!("{kind} {} {}", self.section.words(), visible(self.subject.as_bytes()));
        if fields.is_empty() { head } else { format!("{head}: {}", fields.join("; ")) }
    }
}

impl Section {
    /// The section's name as people read it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Device => "device",
            Self::Host => "host",
            Self::Gateway => "gateway",
            Self::Uid => "uid",
            Self::Ca => "certification authority",
            Self::AuditKey => "audit key",
            Self::BreakGlassKey => "break-glass key",
            Self::Gate => "gate",
            Self::Rules => "the",
            Self::Roster => "the",
        }
    }
}

/// An item of a roster, laid out: its subject and its fields.
type Item = (String, Vec<(&'static str, Option<Value>)>);

/// How a section's items are laid out.
type Layout = fn(&Roster) -> Vec<Item>;

/// Every section with its layout.
const SECTIONS: [(Section, Layout); 11] = [
    (Section::Person, persons),
    (Section::Device, devices),
    (Section::Host, hosts),
    (Section::Gateway, |roster| {
        roster.gateways.iter().map(|one| (one.address.clone(), vec![("key", text(one.key.0.to_text()))])).collect()
    }),
    (Section::Uid, |roster| {
        let item = |one: &UidEntry| (format!("{} {}", one.host, one.uid), vec![("person", text(&one.person))]);
        roster.uids.iter().map(item).collect()
    }),
    (Section::Ca, |roster| {
        let fingerprint = |one: &Ca| text(Digest::plain(&one.certificate.0).to_hex());
        roster.cas.iter().map(|one| (one.id.to_string(), vec![("sha256", fingerprint(one))])).collect()
    }),
    (Section::AuditKey, |roster| roster.audit_keys.iter().map(|key| (key.to_text(), Vec::new())).collect()),
    (Section::BreakGlassKey, |roster| {
        let item = |one: &BreakGlassKey| {
            let words = text(words(&one.key_digest()).join(" "));
            (one.key.to_text(), vec![("person", text(&one.person)), ("words", words)])
        };
        roster.break_glass_keys.iter().map(item).collect()
    }),
    (Section::Gate, gates),
    (Section::Rules, rules),
    (Section::Roster, |roster| {
        let fields = vec![
            ("rp_id", text(&roster.rp_id)),
            ("origins", list(&roster.origins)),
            ("expires_at", text(roster.expires_at.0)),
        ];
        vec![("roster".to_owned(), fields)]
    }),
];

fn compare(section: Section, old: &[Item], new: &[Item], changes: &mut Vec<Change>) {
    fn find<'a>(items: &'a [Item], subject: &str) -> Option<&'a Item> {
        items.iter().find(|(other, _)| other == subject)
    }
    let mut list_change = |kind, subject: &str, fields| {
        changes.push(Change { section, kind, subject: subject.to_owned(), fields });
    };
    for (subject, fields) in old.iter().filter(|(subject, _)| find(new, subject).is_none()) {
        let gone = |(field, value): &(&str, Option<Value>)| FieldChange {
            field: (*field).to_owned(),
            from: value.clone(),
            to: None,
        };
        list_change(ChangeKind::Removed, subject, fields.iter().map(gone).collect());
    }
    for (subject, fields) in new {
        let was = find(old, subject).map(|(_, was)| was);
        let mut differ = Vec::new();
        for (at, (field, to)) in fields.iter().enumerate() {
            let from = was.and_then(|was| was.get(at)).and_then(|(_, value)| value.clone());
            if was.is_none() || from != *to {
                differ.push(FieldChange { field: (*field).to_owned(), from, to: to.clone() });
            }
        }
        match was {
            None => list_change(ChangeKind::Added, subject, differ),
            Some(_) if differ.is_empty() => {}
            Some(_) => list_change(ChangeKind::Changed, subject, differ),
        }
    }
    let stay = |items: &[Item], others: &[Item]| -> Vec<String> {
        items.iter().map(|(subject, _)| subject.clone()).filter(|subject| find(others, subject).is_some()).collect()
    };
    let (from, to) = (stay(old, new), stay(new, old));
    if from != to {
        let field = "order".to_owned();
        let order = FieldChange { field, from: Some(Value::List(from)), to: Some(Value::List(to)) };
        list_change(ChangeKind::Changed, ORDER, vec![order]);
    }
}

fn persons(roster: &Roster) -> Vec<Item> {
    let item = |person: &Person| {
        let owner = match &person.kind {
            PersonKind::Human(_) => None,
            PersonKind::Service(service) => text(&service.owner),
        };
        let standing = match &person.standing {
            Standing::Active => text("active"),
            Standing::Suspended(Suspension { by: None }) => text("suspended"),
            Standing::Suspended(Suspension { by: Some(by) }) => text(format!("suspended by {by}")),
        };
        let fields = vec![
            ("name", text(&person.name)),
            ("owner", owner),
            ("logins", list(&person.logins)),
            ("groups", list(&person.groups)),
            ("may_request", flag(person.may_request)),
            ("standing", standing),
        ];
        (person.id.to_string(), fields)
    };
    roster.persons.iter().map(item).collect()
}

fn devices(roster: &Roster) -> Vec<Item> {
    let item = |person: &Person, device: &Device| {
        let client_class = match device.client_class {
            ClientClass::Page => "page",
            ClientClass::Terminal => "terminal",
        };
        let fields = vec![
            ("person", text(&person.id)),
            ("label", text(&device.label)),
            ("client_class", text(client_class)),
            ("assurance", text(level(device.assurance()))),
            ("words", text(words(&device.keys_digest()).join(" "))),
            ("credential_id", text(device.credential_id.0.to_text())),
            ("credential_key", text(device.credential_key.to_text())),
            ("backup_eligible", flag(device.backup_eligible)),
            ("aaguid", text(uuid(&device.aaguid))),
            ("attested", flag(device.attested)),
            ("device_key", device.device_key.and_then(|key| text(key.to_text()))),
        ];
        (device.id.to_string(), fields)
    };
    let of = |person: &Person| person.devices.iter().map(|device| item(person, device)).collect::<Vec<_>>();
    roster.persons.iter().flat_map(of).collect()
}

fn hosts(roster: &Roster) -> Vec<Item> {
    let item = |host: &Host| {
        let fields = vec![
            ("name", text(&host.name)),
            ("groups", list(&host.groups)),
            ("words", text(words(&host.keys_digest()).join(" "))),
            ("host_key", text(host.host_key.to_text())),
            ("agent_key", text(host.agent_key.to_text())),
        ];
        (host.id.to_string(), fields)
    };
    roster.hosts.iter().map(item).collect()
}

fn gates(roster: &Roster) -> Vec<Item> {
    fn which<T: ToString + PartialEq>(which: &Which<T>) -> Option<Value> {
        match which.named() {
            None => text("any"),
            Some(named) => list(named),
        }
    }
    let item = |(at, gate): (usize, &Gate)| {
        let fields = vec![
            ("hosts", which(&gate.hosts)),
            ("targets", which(&gate.targets)),
            ("approvers", list(&gate.approvers)),
        ];
        ((at + 1).to_string(), fields)
    };
    roster.rules.gates.iter().enumerate().map(item).collect()
}

fn rules(roster: &Roster) -> Vec<Item> {
    let rules = &roster.rules;
    let models: Vec<String> = rules.aaguids.iter().map(uuid).collect();
    // An empty list means the opposite of what an empty list of people does.
    let models = if models.is_empty() { text("any model") } else { list(&models) };
    let fields = vec![
        ("quorum", text(rules.quorum)),
        ("floor", text(level(rules.floor))),
        ("aaguids", models),
        ("max_ttl_s", text(rules.max_ttl_s)),
        ("max_approve_by_s", text(rules.max_approve_by_s)),
        ("distinct_client_class", flag(rules.distinct_client_class)),
        ("break_glass_delay_s", text(rules.break_glass.delay_s)),
        ("break_glass_max_ttl_s", text(rules.break_glass.max_ttl_s)),
    ];
    vec![("rules".to_owned(), fields)]
}

#[allow(clippy::unnecessary_wraps)] // a field's value, which others lack
fn text(value: impl ToString) -> Option<Value> {
    Some(Value::Text(value.to_string()))
}

#[allow(clippy::unnecessary_wraps)] // a field's value, which others lack
fn list<T: ToString>(values: &[T]) -> Option<Value> {
    Some(Value::List(values.iter().map(ToString::to_string).collect()))
}

fn flag(value: bool) -> Option<Value> {
    text(if value { "yes" } else { "no" })
}

const fn level(assurance: Assurance) -> &'static str {
    match assurance {
        Assurance::A => "A",
        Assurance::B => "B",
        Assurance::C => "C",
        Assurance::D => "D",
    }
}

/// An AAGUID as vendors write it (RFC 9562 §4): 8-4-4-4-12 lower-case hexadecimal digits.
fn uuid(aaguid: &Fixed<16>) -> String {
    let mut text = String::new();
    for (at, byte) in aaguid.0.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
