//! Rosters: self-made, signed by too few, rolled back, skipped, forked, unsound, or with laxer
//! rules, brought with the evidence or handed over before the request; and lawful ones that void
//! approvals. Behind a false one stand two approvals that it would make good: of eve and mal, whose
//! phones are the attacker's own. No attack may change what the host pins.

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::evidence::Evidence;
use twinlock_protocol::ids::CaId;
use twinlock_protocol::roster::{Assurance, Ca, ClientClass, Roster, RosterEnvelope, Standing, Suspension};
use twinlock_protocol::softphone::{Phone, person};
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::wire::module::Granted;
use twinlock_protocol::{Digest, UnixTime};

use crate::hostile::Case;
use crate::hostile::stage::{Attempt, Craft, Side, Stage};

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    [forged(), unsound(), laxer(), alone(), rolled_back(), voided()].into_iter().flatten().collect()
}

/// Makes the rosters of one side.
type Make = fn(&Craft<'_, '_>) -> Vec<RosterEnvelope>;

/// A false chain, the lawful one of the control, and whose approvals it would make good.
struct Forgery {
    name: &'static str,
    wrong: Make,
    right: Make,
    approvers: [&'static str; 2],
    /// Why these approvals do not count without it.
    without: R,
}

/// eve and mal as approvers.
fn admit(craft: &Craft<'_, '_>) -> impl FnOnce(&mut Roster) + use<> {
    let devices = [&craft.stage.strangers[0], &craft.stage.strangers[1]].map(|phone| phone.device.clone());
    move |roster| {
        let [eve, mal] = devices;
        roster.persons.push(person("eve", &["approvers"], vec![eve]));
        roster.persons.push(person("mal", &["approvers"], vec![mal]));
    }
}

fn admitted(craft: &Craft<'_, '_>) -> Roster {
    craft.next(admit(craft))
}

fn lawfully(craft: &Craft<'_, '_>) -> Vec<RosterEnvelope> {
    vec![craft.lawful(&admitted(craft))]
}

fn by(craft: &Craft<'_, '_>, devices: &[&str]) -> Vec<RosterEnvelope> {
    vec![craft.signed(&admitted(craft), devices)]
}

const TWO: [&str; 2] = ["bob-phone", "carol-phone"];
const STRANGERS: [&str; 2] = ["eve-phone", "mal-phone"];

fn evidence_with(a: &Attempt<'_, '_>, approvers: [&str; 2], rosters: Vec<RosterEnvelope>) -> Granted {
    let statements = approvers.iter().map(|device| a.yes(device)).collect();
    a.grant_bytes(Evidence { rosters, ..a.evidence(statements) }.to_bytes())
}

impl Forgery {
    fn strangers(name: &'static str, wrong: Make) -> Self {
        Self { name, wrong, right: lawfully, approvers: STRANGERS, without: R::ApproverUnknown }
    }

    fn in_evidence(&self) -> Case {
        let (wrong, right, approvers) = (self.wrong, self.right, self.approvers);
        Case::grant(format!("{}, with the evidence", self.name), R::RosterChain, move |a| {
            let craft = Craft { stage: a.stage };
            evidence_with(a, approvers, a.pick(wrong, right)(&craft))
        })
    }

    /// At the module itself, which says so in the system log.
    fn before(&self) -> Case {
        let (wrong, right, approvers) = (self.wrong, self.right, self.approvers);
        let name = self.name;
        Case::grant(format!("{name}, before the request"), self.without, move |a| {
            evidence_with(a, approvers, Vec::new())
        })
        .offering(move |craft, side| match side {
            Side::Attack => wrong(craft),
            Side::Control => right(craft),
        })
        .at_the_module()
        .looking(move |outcome, side| {
            let alert = "a newer roster: attack: refused: roster-chain: ";
            let alerts = outcome.log.iter().filter(|line| line.contains(alert)).count();
            assert_eq!(alerts > 0, side == Side::Attack, "{name}, {side:?}: {:?}", outcome.log);
        })
    }

    /// Through the real agent, which verifies each step and passes none of it on.
    fn through_the_agent(&self) -> Case {
        Case { seat: crate::hostile::stage::Seat::Gateway, look: None, ..self.before() }
            .named(format!("{}, through the agent", self.name))
    }

    fn both(&self) -> [Case; 2] {
        [self.in_evidence(), self.before()]
    }
}

/// Every way to sign it wrongly.
fn forged() -> Vec<Case> {
    let forge = Forgery::strangers;
    let through_the_agent = ["a roster that nobody signed", "a roster by one person", "a skipped version"];
    let all = [
        forge("a roster that nobody signed", |c| by(c, &[])),
        forge("a roster by one person", |c| by(c, &["bob-phone"])),
        forge("a roster with one signature twice", |c| {
            let mut envelope = by(c, &["bob-phone"]).remove(0);
            envelope.signatures.push(envelope.signatures[0].clone());
            vec![envelope]
        }),
        forge("a roster that one person signed twice", |c| by(c, &["bob-phone", "bob-phone"])),
        forge("a roster by one person's two devices", |c| by(c, &["bob-phone", "bob-tablet"])),
        forge("a roster by those whom it brings", |c| by(c, &STRANGERS)),
        forge("a roster by one person and one whom it brings", |c| by(c, &["bob-phone", "eve-phone"])),
        forge("a roster by one person and a suspended one", |c| by(c, &["bob-phone", "erin-phone"])),
        forge("a roster by one person and one outside every gate", |c| by(c, &["bob-phone", "frank-phone"])),
        forge("a roster by one person and one below the floor", |c| by(c, &["bob-phone", "grace-phone"])),
        forge("a roster with more signatures than it may have", |c| by(c, &["bob-phone"; 17])),
        forge("a roster by two, whose new devices did not prove their keys", |c| {
            let mut envelope = c.lawful(&admitted(c));
            envelope.possessions.clear();
            vec![envelope]
        }),
        forge("a roster by two, one of whose new devices did not prove its keys", |c| {
            let mut envelope = c.lawful(&admitted(c));
            envelope.possessions.pop();
            vec![envelope]
        }),
        forge("a roster by two, with one possession twice", |c| {
            let mut envelope = c.lawful(&admitted(c));
            envelope.possessions[1] = envelope.possessions[0].clone();
            vec![envelope]
        }),
        forge("a roster by two, with a possession of other keys", |c| {
            let mut envelope = c.lawful(&admitted(c));
            let other = Phone::new("mal", "mal-phone");
            envelope.possessions[1] = other.sign_possession(c.head());
            vec![envelope]
        }),
        forge("a roster by two, with an approval of it as possession", |c| {
            let mut envelope = c.lawful(&admitted(c));
            envelope.possessions[1] = c.stage.phone("mal-phone").sign_roster(&admitted(c));
            vec![envelope]
        }),
        forge("a roster with approvals of a command as signatures", |c| {
            let past = &c.stage.past[0].1;
            let next = admitted(c);
            vec![RosterEnvelope::with_possessions(&next, past.statements.clone(), c.possessions(&next))]
        }),
        forge("a roster with the signatures of the one before", |c| {
            let next = admitted(c);
            let old: Vec<SignedStatement> = c.stage.envelope.signatures.clone();
            vec![RosterEnvelope::with_possessions(&next, old, c.possessions(&next))]
        }),
        forge("a roster with two people's signatures to another one", |c| {
            let next = admitted(c);
            let other = c.next(|roster| roster.expires_at = roster.expires_at.plus(1));
            let signatures = TWO.map(|device| c.stage.phone(device).sign_roster(&other)).to_vec();
            vec![RosterEnvelope::with_possessions(&next, signatures, c.possessions(&next))]
        }),
        forge("a roster by two, changed after they signed", |c| {
            let mut envelope = c.lawful(&admitted(c));
            let text = String::from_utf8(envelope.bytes.0).expect("JSON");
            envelope.bytes = Bytes(text.replacen("\"name\":\"dave\"", "\"name\":\"dane\"", 1).into_bytes());
            envelope.digest = Roster::digest_of(&envelope.bytes.0);
            vec![envelope]
        }),
        forge("a roster by two, whose bytes are others than its digest's", |c| {
            let mut envelope = c.lawful(&admitted(c));
            envelope.bytes = Bytes(c.next(|roster| roster.expires_at = roster.expires_at.plus(1)).to_bytes());
            vec![envelope]
        }),
        forge("a roster by two, whose envelope names a later version", |c| {
            let mut envelope = c.lawful(&admitted(c));
            envelope.version += 1;
            vec![envelope]
        }),
        forge("a skipped version", |c| {
            let skipped = c.next(|roster| roster.expires_at = roster.expires_at.plus(1));
            let previous = Some(Roster::digest_of(&skipped.to_bytes()));
            let next = Roster { version: skipped.version + 1, previous, ..admitted(c) };
            vec![c.signed(&next, &TWO)]
        }),
        forge("a version far away", |c| vec![c.signed(&Roster { version: 1 << 52, ..admitted(c) }, &TWO)]),
        forge("a version beyond all integers", |c| vec![c.signed(&Roster { version: 1 << 63, ..admitted(c) }, &TWO)]),
        forge("the same version with another content", |c| {
            let next = Roster { version: 1, previous: None, ..admitted(c) };
            vec![c.signed(&next, &TWO)]
        }),
        forge("version 0", |c| vec![c.signed(&Roster { version: 0, previous: None, ..admitted(c) }, &TWO)]),
        forge("a roster that follows from another one", |c| {
            let next = Roster { previous: Some(Digest::plain(b"another")), ..admitted(c) };
            vec![c.signed(&next, &TWO)]
        }),
        forge("a roster that follows from nothing", |c| {
            vec![c.signed(&Roster { previous: None, ..admitted(c) }, &TWO)]
        }),
        forge("a lawful version, and a self-made one after it", |c| {
            let lawful = c.lawful(&c.next(|roster| roster.expires_at = roster.expires_at.plus(1)));
            let head = c.head().successor(&lawful).expect("a lawful step");
            let mut next = twinlock_protocol::softphone::Fixture::next(&head, admit(c));
            next.issued_at = head.issued_at;
            vec![lawful, c.signed(&next, &STRANGERS)]
        }),
    ];
    let mut cases = Vec::new();
    for forgery in &all {
        // The last one's first version is lawful, and pinned when it is offered.
        let lawful_part = forgery.name.starts_with("a lawful version");
        cases.push(forgery.in_evidence());
        cases.extend((!lawful_part).then(|| forgery.before()));
        cases.extend(through_the_agent.contains(&forgery.name).then(|| forgery.through_the_agent()));
    }
    cases.push(Case::grant("more versions than a verifier walks", R::EvidenceMalformed, |a| {
        let craft = Craft { stage: a.stage };
        let mut rosters = vec![];
        let mut head = craft.head().clone();
        for _ in 0..a.pick(65, 3) {
            let next = twinlock_protocol::softphone::Fixture::next(&head, |roster| {
                roster.expires_at = UnixTime(roster.expires_at.0 - 1);
            });
            let envelope = craft.signed(&next, &TWO);
            head = head.successor(&envelope).expect("a lawful step");
            rosters.push(envelope);
        }
        evidence_with(a, TWO, rosters)
    }));
    cases
}

/// Two people signed these, by mistake or because a page lied: nobody may have them.
fn unsound() -> Vec<Case> {
    let all = [
        Forgery::strangers("a quorum of one", |c| signed_by_two(c, |roster| roster.rules.quorum = 1)),
        Forgery::strangers("a quorum of none", |c| signed_by_two(c, |roster| roster.rules.quorum = 0)),
        Forgery::strangers("a ttl over the limit", |c| signed_by_two(c, |roster| roster.rules.max_ttl_s = 7200)),
        Forgery::strangers("no gates", |c| signed_by_two(c, |roster| roster.rules.gates.clear())),
        Forgery::strangers("no CA", |c| signed_by_two(c, |roster| roster.cas.clear())),
        Forgery::strangers("a life of ten years", |c| {
            signed_by_two(c, |roster| roster.expires_at = roster.issued_at.plus(10 * 366 * 86_400))
        }),
        Forgery::strangers("another RP id", |c| signed_by_two(c, |roster| roster.rp_id = "example.org".into())),
        Forgery::strangers("another site's origin", |c| {
            signed_by_two(c, |roster| roster.origins.push("https://evil.example".into()))
        }),
        Forgery::strangers("an earlier date", |c| signed_by_two(c, |roster| roster.issued_at.0 -= 1)),
        Forgery::strangers("one passkey under two persons", |c| {
            signed_by_two(c, |roster| {
                let key = device(roster, "eve").credential_key;
                device(roster, "mal").credential_key = key;
            })
        }),
        Forgery::strangers("one device key under two persons", |c| {
            signed_by_two(c, |roster| {
                let key = device(roster, "eve").device_key;
                device(roster, "mal").device_key = key;
            })
        }),
        Forgery::strangers("one credential under two persons", |c| {
            signed_by_two(c, |roster| {
                let id = device(roster, "eve").credential_id.clone();
                device(roster, "mal").credential_id = id;
            })
        }),
        Forgery::strangers("one device id under two persons", |c| {
            signed_by_two(c, |roster| {
                let id = device(roster, "eve").id.clone();
                device(roster, "mal").id = id;
            })
        }),
        Forgery::strangers("a passkey that is also a device key", |c| {
            signed_by_two(c, |roster| {
                let key = device(roster, "eve").credential_key;
                device(roster, "mal").device_key = Some(key);
            })
        }),
        Forgery::strangers("a host's key as a person's", |c| {
            signed_by_two(c, |roster| {
                let key = roster.hosts[0].host_key;
                device(roster, "mal").device_key = Some(key);
            })
        }),
        Forgery::strangers("a key in another spelling", |c| {
            signed_by_two(c, |roster| {
                let mut key = device(roster, "eve").credential_key;
                key.0[0] = 6;
                device(roster, "mal").credential_key = key;
            })
        }),
        Forgery::strangers("bob's phone under another person", |c| {
            signed_by_two(c, |roster| {
                let bobs = device(roster, "bob").clone();
                let bob = roster.persons.iter_mut().find(|person| person.id.as_str() == "bob").expect("bob");
                bob.devices.remove(0);
                *device(roster, "mal") = bobs;
            })
        }),
        Forgery::strangers("one person under two spellings of a login", |c| {
            signed_by_two(c, |roster| {
                let mal = roster.persons.iter_mut().find(|person| person.id.as_str() == "mal").expect("mal");
                mal.logins = vec!["EVE".into()];
            })
        }),
        Forgery::strangers("fewer approvers than the quorum", |c| {
            signed_by_two(c, |roster| {
                for person in roster.persons.iter_mut().filter(|person| person.id.as_str() != "eve") {
                    person.devices.clear();
                }
            })
        }),
    ];
    let named = |case: Case| {
        let name = format!("a roster by two with {}", case.name);
        case.named(name)
    };
    all.iter().flat_map(Forgery::both).map(named).collect()
}

fn signed_by_two(craft: &Craft<'_, '_>, change: fn(&mut Roster)) -> Vec<RosterEnvelope> {
    let mut next = admitted(craft);
    change(&mut next);
    let mut envelope = craft.signed(&next, &TWO);
    // What cannot be compared with the roster before has no list of new devices: theirs as they are.
    if envelope.possessions.is_empty() {
        envelope.possessions = craft.stage.strangers.iter().map(|phone| phone.sign_possession(craft.head())).collect();
    }
    vec![envelope]
}

fn device<'r>(roster: &'r mut Roster, person: &str) -> &'r mut twinlock_protocol::roster::Device {
    let found = roster.persons.iter_mut().find(|one| one.id.as_str() == person).expect("a person");
    found.devices.first_mut().expect("a device")
}

/// Laxer rules, by one person alone; by two in the control.
fn laxer() -> Vec<Case> {
    fn set(craft: &Craft<'_, '_>, devices: &[&str], change: fn(&mut Roster)) -> Vec<RosterEnvelope> {
        vec![craft.signed(&craft.next(change), devices)]
    }
    fn floor(roster: &mut Roster) {
        roster.rules.floor = Assurance::D;
    }
    fn gate(roster: &mut Roster) {
        let frank = roster.persons.iter().find(|person| person.id.as_str() == "frank").expect("frank");
        let groups = frank.groups.clone();
        roster.rules.gates[0].approvers.extend(groups);
    }
    fn lifted(roster: &mut Roster) {
        let erin = roster.persons.iter_mut().find(|person| person.id.as_str() == "erin").expect("erin");
        erin.standing = Standing::Active;
    }
    let all = [
        Forgery {
            name: "a lower floor, by one person",
            wrong: |c| set(c, &["bob-phone"], floor),
            right: |c| set(c, &TWO, floor),
            approvers: ["bob-phone", "grace-phone"],
            without: R::AssuranceTooLow,
        },
        Forgery {
            name: "a wider gate, by one person",
            wrong: |c| set(c, &["bob-phone"], gate),
            right: |c| set(c, &TWO, gate),
            approvers: ["bob-phone", "frank-phone"],
            without: R::ApproverNotEligible,
        },
        Forgery {
            name: "a suspension lifted, by one person",
            wrong: |c| set(c, &["bob-phone"], lifted),
            right: |c| set(c, &TWO, lifted),
            approvers: ["bob-phone", "erin-phone"],
            without: R::ApproverNotEligible,
        },
        Forgery {
            name: "a suspension lifted, by one person and the suspended one",
            wrong: |c| set(c, &["bob-phone", "erin-phone"], lifted),
            right: |c| set(c, &TWO, lifted),
            approvers: ["bob-phone", "erin-phone"],
            without: R::ApproverNotEligible,
        },
    ];
    all.iter().flat_map(Forgery::both).collect()
}

fn suspend(roster: &mut Roster, person: &str, by: Option<&str>) {
    let by = by.and_then(twinlock_protocol::ids::PersonId::new);
    let found = roster.persons.iter_mut().find(|one| one.id.as_str() == person).expect("a person");
    found.standing = Standing::Suspended(Suspension { by });
}

/// What one person may do alone, and more than that: the approvals are good, the chain is not.
fn alone() -> Vec<Case> {
    let alone = |name: &'static str, wrong: Make, right: Make| {
        Forgery { name, wrong, right, approvers: TWO, without: R::Internal }.in_evidence()
    };
    let suspends: Make = |c| vec![c.signed(&c.next(|roster| suspend(roster, "dave", Some("bob"))), &["bob-phone"])];
    vec![
        alone(
            "a renewal by one person",
            |c| vec![c.signed(&c.next(|roster| roster.expires_at = roster.expires_at.plus(60)), &["bob-phone"])],
            |c| vec![c.lawful(&c.next(|roster| roster.expires_at = roster.expires_at.plus(60)))],
        ),
        alone(
            "a suspension by one, in another's name",
            |c| vec![c.signed(&c.next(|roster| suspend(roster, "dave", Some("carol"))), &["bob-phone"])],
            suspends,
        ),
        alone(
            "a suspension by one, in nobody's name",
            |c| vec![c.signed(&c.next(|roster| suspend(roster, "dave", None)), &["bob-phone"])],
            suspends,
        ),
        alone(
            "two suspensions by one",
            |c| {
                let next = c.next(|roster| {
                    suspend(roster, "dave", Some("bob"));
                    suspend(roster, "frank", Some("bob"));
                });
                vec![c.signed(&next, &["bob-phone"])]
            },
            suspends,
        ),
        alone(
            "a suspension by one, and laxer rules beside it",
            |c| {
                let next = c.next(|roster| {
                    suspend(roster, "dave", Some("bob"));
                    roster.rules.floor = Assurance::D;
                });
                vec![c.signed(&next, &["bob-phone"])]
            },
            suspends,
        ),
        alone(
            "a suspension of oneself",
            |c| vec![c.signed(&c.next(|roster| suspend(roster, "bob", Some("bob"))), &["bob-phone"])],
            suspends,
        ),
        alone(
            "a device key restored by its owner alone",
            |c| restored(c, &["dave-phone"]),
            |c| restored(c, &["bob-phone"]),
        ),
        alone(
            "a device key restored by another alone, without its passkey",
            |c| {
                let mut envelope = restored(c, &["bob-phone"]).remove(0);
                envelope.possessions.clear();
                vec![envelope]
            },
            |c| restored(c, &["bob-phone"]),
        ),
        alone(
            "a device key restored by what was signed for an earlier one",
            |c| {
                // The word of the same phone and for the same key, when the roster had another.
                let mut earlier = c.head().roster().clone();
                device(&mut earlier, "dave").device_key = Some(Phone::new("dave", "dave-phone").device.credential_key);
                restored_after(c, &earlier, &["bob-phone"])
            },
            |c| restored(c, &["bob-phone"]),
        ),
        alone(
            "a device key restored with another passkey",
            |c| {
                let mut envelope = restored(c, &["bob-phone"]).remove(0);
                let mut other = Phone::new("dave", "dave-phone");
                other.device.credential_id = c.stage.phone("dave-phone").device.credential_id.clone();
                envelope.possessions[0] = other.sign_possession(c.head());
                vec![envelope]
            },
            |c| restored(c, &["bob-phone"]),
        ),
    ]
}

/// dave's phone with a new device key beside its passkey.
fn restored(craft: &Craft<'_, '_>, signers: &[&str]) -> Vec<RosterEnvelope> {
    restored_after(craft, craft.head(), signers)
}

/// The same, by a word that was given to follow on `base`.
fn restored_after(craft: &Craft<'_, '_>, base: &Roster, signers: &[&str]) -> Vec<RosterEnvelope> {
    let renewed = craft.stage.phone("dave-phone").with_new_device_key();
    let next = craft.next(|roster| {
        let dave = roster.persons.iter_mut().find(|person| person.id.as_str() == "dave").expect("dave");
        let phone = dave.devices.iter_mut().find(|device| device.id == renewed.device.id).expect("his phone");
        phone.device_key = renewed.device.device_key;
    });
    let signatures = signers.iter().map(|device| craft.stage.phone(device).sign_roster(&next)).collect();
    vec![RosterEnvelope::with_possessions(&next, signatures, vec![renewed.sign_possession(base)])]
}

fn without(roster: &mut Roster, person: &str) {
    roster.persons.retain(|one| one.id.as_str() != person);
}

/// The host has version 2, in which carol is no more; version 1 comes again.
fn rolled_back() -> Vec<Case> {
    let carol_left: fn(&mut Roster) = |roster| without(roster, "carol");
    let second = |a: &Attempt<'_, '_>| a.pick("carol-phone", "dave-phone");
    vec![
        Case::grant("approvals by the version before", R::ApproverUnknown, move |a| {
            evidence_with(a, ["bob-phone", second(a)], Vec::new())
        })
        .after(carol_left),
        Case::grant("the version before, with the evidence", R::RosterChain, move |a| {
            let old = a.stage.installation.envelope.clone();
            evidence_with(a, ["bob-phone", second(a)], a.pick(vec![old], Vec::new()))
        })
        .after(carol_left),
        Case::grant("the pinned version again, with the evidence", R::RosterChain, move |a| {
            evidence_with(a, ["bob-phone", "dave-phone"], a.pick(vec![a.stage.envelope.clone()], Vec::new()))
        })
        .after(carol_left),
        Case::grant("the version before, before the request", R::ApproverUnknown, move |a| {
            evidence_with(a, ["bob-phone", second(a)], Vec::new())
        })
        .after(carol_left)
        .offering(|craft, side| match side {
            Side::Attack => vec![craft.stage.installation.envelope.clone()],
            Side::Control => Vec::new(),
        })
        .at_the_module(),
    ]
}

/// The evidence brings a lawful version, under which an approval, the request or the certificate is
/// void: what an honest gateway would not have issued.
fn voided() -> Vec<Case> {
    fn brings(
        name: &str,
        reason: R,
        wrong: fn(&mut Roster),
        right: fn(&mut Roster),
        approvers: fn(&Attempt<'_, '_>) -> [&'static str; 2],
    ) -> Case {
        Case::grant(name, reason, move |a| {
            let craft = Craft { stage: a.stage };
            let next = craft.next(a.pick(wrong, right));
            evidence_with(a, approvers(a), vec![craft.lawful(&next)])
        })
        .bringing_a_lawful_roster()
    }
    let two: fn(&Attempt<'_, '_>) -> [&'static str; 2] = |_| TWO;
    let renewed: fn(&mut Roster) = |roster| roster.expires_at = UnixTime(roster.expires_at.0 - 60);
    let carol = |a: &Attempt<'_, '_>| ["bob-phone", a.pick("carol-phone", "dave-phone")];
    let left: fn(&mut Roster) = |roster| without(roster, "carol");
    let suspended: fn(&mut Roster) = |roster| suspend(roster, "carol", None);
    vec![
        brings("an approval of somebody removed meanwhile", R::ApproverUnknown, left, left, carol),
        brings("an approval of somebody suspended meanwhile", R::ApproverNotEligible, suspended, suspended, carol),
        Case::grant("an approval of somebody whom one person suspended meanwhile", R::ApproverNotEligible, move |a| {
            let craft = Craft { stage: a.stage };
            let next = craft.next(|roster| suspend(roster, "carol", Some("bob")));
            evidence_with(a, carol(a), vec![craft.signed(&next, &["bob-phone"])])
        }),
        Case::grant("an approval of a phone that was replaced meanwhile", R::ApproverUnknown, move |a| {
            let craft = Craft { stage: a.stage };
            let next = craft.next(|roster| {
                let carol = roster.persons.iter_mut().find(|person| person.id.as_str() == "carol").expect("carol");
                carol.devices = vec![a.stage.strangers[0].device.clone()];
            });
            let mut envelope = craft.signed(&next, &TWO);
            let mut phone = a.stage.strangers[0].possession(a.roster());
            phone.person = twinlock_protocol::ids::PersonId::new("carol").expect("an id");
            let domains = twinlock_protocol::statement::POSSESSION_DOMAINS;
            envelope.possessions = vec![a.stage.strangers[0].sign(a.roster(), domains, &phone.to_bytes())];
            craft.head().successor(&envelope).expect("a lawful step");
            evidence_with(a, carol(a), vec![envelope])
        }),
        brings(
            "approvals for somebody who may not ask any more",
            R::RequesterMayNotAsk,
            |roster| {
                roster.persons.iter_mut().find(|one| one.id.as_str() == "alice").expect("alice").may_request = false;
            },
            renewed,
            two,
        ),
        brings(
            "approvals for somebody suspended meanwhile",
            R::RequesterMayNotAsk,
            |roster| suspend(roster, "alice", None),
            |roster| suspend(roster, "frank", None),
            two,
        ),
        brings(
            "approvals for a host removed meanwhile",
            R::HostUnknown,
            |roster| {
                roster.uids.clear();
                roster.hosts.remove(0);
            },
            |roster| {
                roster.hosts.remove(1);
            },
            two,
        ),
        brings(
            "approvals for a host with another key meanwhile",
            R::HostUnknown,
            |roster| roster.hosts[0].host_key.clone_from(&Phone::new("x", "x").device.credential_key),
            renewed,
            two,
        ),
        brings(
            "a certificate by a CA that the roster has dropped",
            R::CertificateInvalid,
            |roster| {
                let (ca, _) =
                    twinlock_certs::issue::Ca::generate("Twinlock other CA", roster.issued_at, 10).expect("a CA");
                let certificate = Bytes(ca.certificate().to_vec());
                roster.cas = vec![Ca { id: CaId::new("ca2").expect("an id"), certificate }];
            },
            |roster| {
                let (ca, _) =
                    twinlock_certs::issue::Ca::generate("Twinlock other CA", roster.issued_at, 10).expect("a CA");
                let certificate = Bytes(ca.certificate().to_vec());
                roster.cas.push(Ca { id: CaId::new("ca2").expect("an id"), certificate });
            },
            two,
        ),
        brings(
            "fifteen minutes, where the newer roster allows one",
            R::CertificateTime,
            |roster| roster.rules.max_ttl_s = 60,
            renewed,
            two,
        ),
        Case::grant("two kinds of client asked for meanwhile, and one came", R::SameClientClass, move |a| {
            let craft = Craft { stage: a.stage };
            let next = craft.next(|roster| {
                device(roster, "dave").client_class = ClientClass::Terminal;
                roster.rules.distinct_client_class = true;
            });
            let mut envelope = craft.signed(&next, &TWO);
            let dave = a.stage.phone("dave-phone");
            let mut word = dave.possession(a.roster());
            word.device = device(&mut next.clone(), "dave").record_digest();
            let domains = twinlock_protocol::statement::POSSESSION_DOMAINS;
            envelope.possessions = vec![dave.sign(a.roster(), domains, &word.to_bytes())];
            craft.head().successor(&envelope).expect("a lawful step");
            evidence_with(a, carol(a), vec![envelope])
        }),
        brings(
            "a newer roster that is over",
            R::RosterExpired,
            |roster| roster.expires_at = roster.issued_at.plus(1),
            renewed,
            two,
        ),
    ]
}
