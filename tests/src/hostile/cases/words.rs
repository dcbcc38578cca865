//! Words and frames: terminal escapes in all that can be said, names of others, other versions of
//! the wire, frames that are none.

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::statement::{APPROVAL_DOMAINS, Decision};
use twinlock_protocol::wire::module::{
    Accepted, Approved, Denied, Granted, Link, ModuleEvent, Refused, ShowTicket, Slot,
};

use crate::hostile::Case;
use crate::hostile::stage::{Ask, Attempt, Outcome, Say, Side, Stage, relayed};

/// Sets the title, asks for an answer, moves the cursor, reverses the text, rings.
const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{1b}[6n\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\r\n\u{8}twinlock: approved";

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    [escapes(), hearsay(), frames()].into_iter().flatten().collect()
}

/// A terminal that knows no escapes must not be sent any; every other terminal only those that the
/// module itself draws with.
fn clean(outcome: &Outcome, side: Side) {
    let text = String::from_utf8_lossy(&outcome.transcript);
    let drawn = ["\u{1b}[2K", "\u{1b}[J", "\u{1b}[0m", "\u{1b}[38;5;16;48;5;231m"];
    let mut rest = drawn.iter().fold(text.clone().into_owned(), |text, known| text.replace(known, ""));
    for lines in 1..60 {
        rest = rest.replace(&format!("\u{1b}[{lines}A"), "");
    }
    let bad = |c: char| (c.is_control() && !matches!(c, '\r' | '\n')) || ('\u{200b}'..='\u{202e}').contains(&c);
    let left: Vec<char> = rest.chars().filter(|c| bad(*c)).collect();
    assert!(left.is_empty(), "{side:?}: raw control characters {left:?} in {text:?}");
}

fn escapes() -> Vec<Case> {
    let denied = |a: &Attempt<'_, '_>| {
        let mut said = a.opening();
        if a.attacks() {
            let dave = a.phone("dave-phone");
            let mut statement = dave.statement(a.id, Decision::Deny);
            statement.deny_reason = Some(ESCAPES.into());
            let statement = dave.sign(a.roster(), APPROVAL_DOMAINS, &statement.to_bytes());
            said.push(Say::Event(ModuleEvent::Denied(Denied { statement })));
        }
        said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
        said
    };
    let dumb = || Ask { term: "dumb", ..Ask::default() };
    let escaped = || serde_json::to_string(ESCAPES).expect("JSON");
    // What the types cannot hold is sent as bytes, at the module itself.
    let raw = move |name: &str, body: fn(&str) -> String| {
        Case::says(format!("terminal escapes {name}"), &[R::WireMismatch], move |a| {
            let mut said = a.opening();
            said.extend(a.attacks().then(|| Say::Raw(body(&escaped()).into_bytes())));
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
            said
        })
        .at_the_module()
        .looking(clean)
    };
    vec![
        Case::says("terminal escapes in a signed denial's reason", &[R::Denied], denied).looking(clean),
        Case::says("the same on a dumb terminal", &[R::Denied], denied).asked(dumb()).looking(clean),
        raw("as a ticket", |text| format!(r#"{{"ticket":{{"slot":1,"ticket":{text},"valid_s":90}}}}"#)),
        raw("as a name that approved", |text| format!(r#"{{"approved":{{"slot":1,"person":{text}}}}}"#)),
        raw("among the eligible", |text| {
            format!(r#"{{"accepted":{{"request":"{}","eligible":[{text}],"approved":[]}}}}"#, "A".repeat(43))
        }),
        raw("as a reason to refuse", |text| format!(r#"{{"refused":{{"reason":{text},"retry_after_s":null}}}}"#)),
        raw("as a kind of event", |text| format!(r#"{{{text}:{{}}}}"#)),
        raw("as a field", |text| format!(r#"{{"link":{{"up":true,{text}:1}}}}"#)),
        raw("in place of a frame", |text| text.to_owned()),
    ]
}

/// What the gateway only says, without a signature.
fn hearsay() -> Vec<Case> {
    let first = |name: &str, reason: R, event: fn(&Attempt<'_, '_>) -> ModuleEvent| {
        Case::says(name, &[reason], move |a| {
            let mut said = a.opening();
            said.extend(a.attacks().then(|| Say::Event(event(a))));
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
            said
        })
        .at_the_module()
        .looking(clean)
    };
    vec![
        first("a refusal, then a grant", R::Revoked, |_| {
            ModuleEvent::Refused(Refused { reason: R::Revoked, retry_after_s: Some(u32::MAX) })
        }),
        first("a refusal that cries attack, then a grant", R::SamePerson, |_| {
            ModuleEvent::Refused(Refused { reason: R::SamePerson, retry_after_s: None })
        })
        .told(R::SamePerson),
        first("an acceptance of another request", R::WireMismatch, |a| {
            ModuleEvent::Accepted(Accepted {
                request: a.past("for root").id,
                eligible: Vec::new(),
                approved: Vec::new(),
            })
        }),
        first("an approver who is not in the roster", R::ApproverUnknown, |_| {
            ModuleEvent::Approved(Approved { slot: 1, person: PersonId::new("root").expect("an id") })
        }),
        first("approvals before the request was accepted, by nobody we know", R::ApproverUnknown, |a| {
            let approved = ["bob", "nobody"].iter().filter_map(|name| PersonId::new(name)).collect();
            ModuleEvent::Accepted(Accepted { request: a.id, eligible: Vec::new(), approved })
        }),
        first("a ticket for a third approver", R::WireMismatch, |_| {
            let ticket = twinlock_protocol::ids::Ticket::from_random(&[7; 16]);
            ModuleEvent::Ticket(ShowTicket { slot: 3, ticket, valid_s: u32::MAX })
        }),
        Case::grant("the answer comes before anything else was said", R::TooFewApprovals, |a| {
            a.grant(a.pick(vec![], a.two()))
        })
        .at_the_module(),
        Case::says("a grant without evidence, then one with", &[R::TooFewApprovals], |a| {
            let mut said = a.opening();
            said.extend(a.attacks().then(|| Say::Event(ModuleEvent::Granted(a.grant(Vec::new())))));
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
            said
        })
        .at_the_module(),
        Case::says("a noisy beginning: link, claims of a slot 200, then a false grant", &[R::TooFewApprovals], |a| {
            let mut said = a.opening();
            for up in [false, true, false] {
                said.push(Say::Event(ModuleEvent::Link(Link { up })));
                said.push(Say::Event(ModuleEvent::Claimed(Slot { slot: 200 })));
            }
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.pick(vec![], a.two())))));
            said
        })
        .at_the_module()
        .looking(clean),
    ]
}

fn frames() -> Vec<Case> {
    let raw = |name: &str, body: fn(&Granted) -> Vec<u8>| {
        Case::says(name, &[R::WireMismatch], move |a| {
            let mut said = a.opening();
            let granted = a.grant(a.two());
            let honest = serde_json::to_vec(&ModuleEvent::Granted(granted.clone())).expect("JSON");
            said.push(Say::Raw(a.pick(body(&granted), honest)));
            said
        })
        .at_the_module()
    };
    vec![
        raw("a grant of a later wire version", |granted| {
            edit(granted, |text| text.replacen("{\"granted\":", "{\"granted_v2\":", 1))
        }),
        raw("a grant with a field of a later version", |granted| {
            edit(granted, |text| text.replacen("{\"certificate\"", "{\"session\":true,\"certificate\"", 1))
        }),
        raw("a grant without its revocation list", |granted| {
            edit(granted, |text| {
                let (head, _) = text.split_once(",\"crl\"").expect("a list");
                format!("{head}}}}}")
            })
        }),
        raw("a grant with its evidence twice", |granted| {
            edit(granted, |text| text.replacen("{\"certificate\"", "{\"evidence\":\"\",\"certificate\"", 1))
        }),
        raw("two events in one frame", |granted| edit(granted, |text| format!("{text}{text}"))),
        raw("an empty frame", |_| Vec::new()),
        raw("a frame that is no JSON", |_| b"\xff\xfe\x00".to_vec()),
        raw("a frame of nested lists", |_| vec![b'['; 100_000]),
        Case::says("a whole grant for another request's module", &[R::Expired], |a| {
            let mut said = a.opening();
            let other = a.past("for root").id;
            let granted = a.grant(a.two());
            said.push(Say::Raw(relayed(a.pick(other, a.id), ModuleEvent::Granted(granted))));
            said
        })
        .asked(Ask { module: "approve_by_s = 3", ..Ask::default() }),
    ]
}

fn edit(granted: &Granted, change: impl Fn(&str) -> String) -> Vec<u8> {
    change(&serde_json::to_string(&ModuleEvent::Granted(granted.clone())).expect("JSON")).into_bytes()
}
