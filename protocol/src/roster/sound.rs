//! Whether a roster's content is sound by itself, whoever signed it.

use std::collections::BTreeSet;

use super::{
    BreakGlassRules, Device, FORMAT_VERSION, Gate, Host, Person, PersonKind, Roster, RosterError, ServiceOwner,
    UidEntry,
};
use crate::ids::{PersonId, is_reserved};
use crate::{limits, signature};

impl Roster {
    /// Whether the content is sound: ids, logins, keys and credentials appear once, references
    /// resolve, the rules are within limits and enough people can approve.
    ///
    /// # Errors
    /// [`RosterError::Unsound`], naming the rule.
    pub fn check(&self) -> Result<(), RosterError> {
        let unsound = |rule| Err(RosterError::Unsound(rule));
        if self.format_version != FORMAT_VERSION {
            return unsound("format_version is 1");
        }
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return unsound("only version 1 has no previous version");
        }
        if self.version > limits::MAX_INTEGER || self.expires_at.0 > limits::MAX_INTEGER {
            return unsound("integers are below 2^53");
        }
        self.check_sizes()?;
        let life = self.expires_at.since(self.issued_at);
        if life == 0 || life > limits::MAX_ROSTER_LIFE_S {
            return unsound("it lives at most 366 days");
        }
        if !rp_id_fits(&self.rp_id) {
            return unsound("rp_id is a lower-case DNS name, not an address");
        }
        if self.origins.is_empty() || !self.origins.iter().all(|origin| origin_fits(origin, &self.rp_id)) {
            return unsound("every origin is https://HOST[:PORT] with HOST at or below rp_id");
        }
        if !(limits::MIN_TTL_S..=limits::MAX_TTL_S).contains(&self.rules.max_ttl_s) {
            return unsound("max_ttl_s is 1 to 3600");
        }
        if !(1..=limits::MAX_APPROVE_BY_S).contains(&self.rules.max_approve_by_s) {
            return unsound("max_approve_by_s is 1 to 600");
        }
        let BreakGlassRules { delay_s, max_ttl_s } = self.rules.break_glass;
        if !(limits::MIN_BREAK_GLASS_DELAY_S..=limits::MAX_BREAK_GLASS_DELAY_S).contains(&delay_s)
            || !(limits::MIN_BREAK_GLASS_TTL_S..=limits::MAX_BREAK_GLASS_TTL_S).contains(&max_ttl_s)
        {
            return unsound("the break-glass delay is 10 to 3600, its max_ttl_s 60 to 900");
        }
        if self.rules.quorum != limits::MIN_QUORUM {
            return unsound("the quorum is 2");
        }
        if self.rules.gates.is_empty() || self.cas.is_empty() {
            return unsound("there is at least one gate and one CA");
        }
        self.check_unique()?;
        self.check_references()?;
        let approvers = self.approvers();
        if approvers.len() < self.rules.quorum as usize {
            return unsound("fewer people can approve than the quorum asks for");
        }
        // Or nobody could ever sign another version.
        if !self.rules.holds_two_for_a_yes(&approvers) {
            return unsound("no two people can approve from two client classes");
        }
        Ok(())
    }

    /// Lists that decisions walk are short, so that no roster makes a decision slow.
    fn check_sizes(&self) -> Result<(), RosterError> {
        let short = |length: usize| length <= limits::ROSTER_LIST;
        let gate_fits = |gate: &Gate| {
            short(gate.approvers.len())
                && short(gate.hosts.named().map_or(0, <[_]>::len))
                && short(gate.targets.named().map_or(0, <[_]>::len))
        };
        let person_fits =
            |person: &Person| short(person.logins.len()) && short(person.groups.len()) && short(person.devices.len());
        let gates = &self.rules.gates;
        let keys = [self.audit_keys.len(), self.break_glass_keys.len()];
        let lists = [self.origins.len(), self.gateways.len(), self.cas.len(), gates.len(), self.rules.aaguids.len()];
        if lists.into_iter().chain(keys).all(short)
            && gates.iter().all(gate_fits)
            && self.persons.iter().all(person_fits)
            && self.hosts.iter().all(|host| short(host.groups.len()))
        {
            Ok(())
        } else {
            Err(RosterError::Unsound("a short list has at most 256 entries"))
        }
    }

    /// Credentials are compared as bytes. Keys are compared by their x coordinate: a point has one
    /// spelling of 65 bytes, and whoever holds the private half of one also holds that of the only
    /// other point with this x. Names that people tell apart by eye, and logins, which some hosts look up without
    /// regard to case, differ by more than case.
    fn check_unique(&self) -> Result<(), RosterError> {
        let devices = || self.persons.iter().flat_map(|person| &person.devices);
        let keys = devices()
            .map(|device| &device.credential_key)
            .chain(devices().filter_map(|device| device.device_key.as_ref()))
            .chain(self.hosts.iter().map(|host| &host.host_key))
            .chain(self.hosts.iter().map(|host| &host.agent_key))
            .chain(&self.audit_keys)
            .chain(self.break_glass_keys.iter().map(|one| &one.key));
        if !keys.clone().all(|key| key.0.starts_with(&[4])) {
            return Err(RosterError::Unsound("a key is an uncompressed point"));
        }
        // One person may have a login in several spellings.
        let of_person = |person: &'_ Person, login: &String| format!("{}\0{}", login.to_lowercase(), person.id).into();
        let logins = self.persons.iter().flat_map(|one| one.logins.iter().map(move |login| of_person(one, login)));
        let logins = sorted_once(logins.collect());
        let login = |pair: &Vec<u8>| pair.rsplitn(2, |byte| *byte == 0).nth(1).map(<[u8]>::to_vec);
        let checks = [
            (all_distinct(self.persons.iter().map(|person| &person.id)), "a person id appears twice"),
            (
                all_distinct(self.persons.iter().map(|person| person.name.to_lowercase())),
                "a person's name appears twice",
            ),
            (all_distinct(logins.iter().filter_map(login)), "a login maps to two persons"),
            (all_distinct(self.persons.iter().flat_map(|person| &person.logins)), "a login appears twice"),
            (all_distinct(devices().map(|device| &device.id)), "a device id appears twice"),
            (all_distinct(devices().map(|device| &device.credential_id.0)), "a credential appears twice"),
            (all_distinct(keys.map(signature::x)), "a key appears twice"),
            (all_distinct(self.hosts.iter().map(|host| &host.id)), "a host id appears twice"),
            (all_distinct(self.hosts.iter().map(|host| host.name.to_ascii_lowercase())), "a host name appears twice"),
            (all_distinct(self.gateways.iter().map(|one| one.address.to_ascii_lowercase())), "a gateway appears twice"),
            (all_distinct(self.gateways.iter().map(|one| one.key.0)), "a gateway's key appears twice"),
            (all_distinct(self.rules.aaguids.iter()), "an authenticator model is listed twice"),
            (all_distinct(self.cas.iter().map(|ca| &ca.id)), "a CA id appears twice"),
            (
                all_distinct(self.uids.iter().map(|entry| format!("{} {}", entry.host, entry.uid))),
                "a uid maps to two persons",
            ),
        ];
        checks.into_iter().try_for_each(|(holds, rule)| if holds { Ok(()) } else { Err(RosterError::Unsound(rule)) })
    }

    fn check_references(&self) -> Result<(), RosterError> {
        let unsound = |rule| Err(RosterError::Unsound(rule));
        let is_human = |person: &&Person| matches!(person.kind, PersonKind::Human(_));
        // All sets are of text, so that the PAM module holds one kind of set.
        let humans: BTreeSet<&str> = self.persons.iter().filter(is_human).map(|person| person.id.as_str()).collect();
        let persons: BTreeSet<&str> = self.persons.iter().map(|person| person.id.as_str()).collect();
        for person in &self.persons {
            if !plain_text(&person.name) || person.name.len() > limits::NAME_BYTES {
                return unsound("a person's name is 1 to 100 bytes of plain text");
            }
            let resolves = |by: &PersonId| self.version > 1 && *by != person.id && persons.contains(by.as_str());
            if !person.standing.suspended_alone_by().is_none_or(resolves) {
                return unsound("who suspended somebody alone is another person, and not in version 1");
            }
            if !person.logins.iter().all(|login| login_fits(login)) {
                return unsound("a login is 1 to 255 bytes of plain text, not any or none");
            }
            if let PersonKind::Service(ServiceOwner { owner }) = &person.kind
                && (!humans.contains(owner.as_str()) || !person.devices.is_empty())
            {
                return unsound("a service has a human owner and no devices");
            }
            if person.devices.iter().any(|device| !plain_text(&device.label) || device.label.len() > limits::NAME_BYTES)
            {
                return unsound("a device's label is 1 to 100 bytes of plain text");
            }
            let credential_fits =
                |device: &Device| (1..=limits::CREDENTIAL_ID_BYTES).contains(&device.credential_id.0.0.len());
            if !person.devices.iter().all(credential_fits) {
                return unsound("a credential id has 1 to 1023 bytes");
            }
        }
        // D3: a host is known by its enrolled name, in one script that cannot be mistaken.
        let host_name_fits = |host: &Host| {
            !host.name.is_empty()
                && host.name.len() <= limits::NAME_BYTES
                && host.name.bytes().all(|b| b.is_ascii_graphic())
        };
        if !self.hosts.iter().all(host_name_fits) {
            return unsound("a host name is 1 to 100 printable ASCII characters");
        }
        if !self.gateways.iter().all(|gateway| address_fits(&gateway.address)) {
            return unsound("a gateway's address is HOST:PORT");
        }
        let targets = self.rules.gates.iter().filter_map(|gate| gate.targets.named()).flatten();
        if !targets.into_iter().all(|target| login_fits(target)) {
            return unsound("a target is 1 to 255 bytes of plain text, not any or none");
        }
        if !self.break_glass_keys.iter().all(|one| humans.contains(one.person.as_str())) {
            return unsound("a break-glass key is a human's of the roster");
        }
        let hosts: BTreeSet<&str> = self.hosts.iter().map(|host| host.id.as_str()).collect();
        let known = |entry: &UidEntry| hosts.contains(entry.host.as_str()) && persons.contains(entry.person.as_str());
        if !self.uids.iter().all(known) {
            return unsound("a uid entry names a host and a person of the roster");
        }
        Ok(())
    }
}

fn all_distinct(values: impl Iterator<Item = impl AsRef<[u8]>>) -> bool {
    none_repeats(values.map(|value| value.as_ref().to_vec()).collect())
}

/// Apart from the above, so that the PAM module holds one sort and not one per kind of value.
fn none_repeats(values: Vec<Vec<u8>>) -> bool {
    let count = values.len();
    sorted_once(values).len() == count
}

fn sorted_once(mut values: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    values.sort_unstable();
    values.dedup();
    values
}

/// One line that shows as it is, without spaces at its ends.
fn plain_text(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && crate::escape::shows_as_it_is(text)
}

fn login_fits(login: &str) -> bool {
    plain_text(login) && !is_reserved(login) && login.len() <= limits::LOGIN_BYTES
}

/// `HOST:PORT`, with an address of IPv6 in brackets.
fn address_fits(address: &str) -> bool {
    address.len() <= limits::LOGIN_BYTES
        && address.bytes().all(|b| b.is_ascii_graphic())
        && address.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            !host.is_empty() && (bracketed || !host.contains(':')) && port_fits(port)
        })
}

/// A port in its one spelling.
fn port_fits(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn rp_id_fits(rp_id: &str) -> bool {
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let is_address = rp_id.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    rp_id.len() <= 253 && rp_id.split('.').all(label_fits) && !is_address
}

fn origin_fits(origin: &str, rp_id: &str) -> bool {
    let Some(authority) = origin.strip_prefix("https://") else { return false };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let port_fits = port.is_none_or(|port| port != "443" && port_fits(port));
    let below = host.strip_suffix(rp_id).is_some_and(|head| head.is_empty() || head.ends_with('.'));
    rp_id_fits(host) && below && port_fits
}
