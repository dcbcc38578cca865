//! What a PAM stack can come to, whatever its modules answer: libpam's rules walked as a graph. One
//! question: can the phase succeed although our module says no, or is never asked?

use std::collections::{BTreeMap, VecDeque};

use super::pam::{Action, Entry, Module};
use crate::cli::enable::MODULE;

/// What our module answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It grants.
    Yes,
    /// It refuses, or its file is missing.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Impression {
    Undefined,
    Positive,
    Negative,
}

/// Whether an entry is ours.
#[must_use]
pub fn is_ours(entry: &Entry) -> bool {
    entry.module.as_ref().is_some_and(|module| module.file_name() == MODULE)
}

/// A way by which the phase of `service` succeeds with that answer of ours: the entries passed, in
/// order. None where there is no such way.
#[must_use]
pub fn way_through(stack: &[Entry], service: &str, ours: Answer) -> Option<Vec<usize>> {
    type State = (usize, Impression);
    let start: State = (0, Impression::Undefined);
    let mut before: BTreeMap<State, State> = BTreeMap::new();
    let mut ahead = VecDeque::from([start]);
    while let Some(state) = ahead.pop_front() {
        let (at, impression) = state;
        let Some(entry) = stack.get(at) else {
            if impression == Impression::Positive {
                return Some(path(&before, start, state));
            }
            continue;
        };
        let next = match &entry.module {
            None => vec![(at + 1, impression)],
            Some(module) => actions(entry, module, service, ours)
                .into_iter()
                .flat_map(|action| after(stack, at, entry.level, impression, action))
                .collect(),
        };
        for state_after in next {
            if state_after != start && !before.contains_key(&state_after) {
                before.insert(state_after, state);
                ahead.push_back(state_after);
            }
        }
    }
    None
}

fn path(
    before: &BTreeMap<(usize, Impression), (usize, Impression)>,
    start: (usize, Impression),
    end: (usize, Impression),
) -> Vec<usize> {
    let mut passed = Vec::new();
    let mut state = end;
    while state != start
        && let Some(earlier) = before.get(&state)
    {
        passed.push(earlier.0);
        state = *earlier;
    }
    passed.reverse();
    passed
}

/// What may happen at a module. Few are known well enough to leave an answer out; those that ask who
/// calls are judged for somebody who is not root.
fn actions(entry: &Entry, module: &Module, service: &str, ours: Answer) -> Vec<Action> {
    let control = &module.control;
    if is_ours(entry) {
        return match ours {
            Answer::Yes => vec![control.success],
            Answer::No => control.refusal.clone(),
        };
    }
    let yes = || vec![control.success];
    let words: Vec<&str> = module.arguments.iter().map(String::as_str).collect();
    match module.file_name() {
        "pam_permit.so" => yes(),
        "pam_deny.so" | "pam_rootok.so" => control.refusal.clone(),
        "pam_succeed_if.so" if words.contains(&"use_uid") && words.windows(3).any(|w| w == ["uid", "=", "0"]) => {
            control.refusal.clone()
        }
        "pam_succeed_if.so" if is_out(&words, service) => control.refusal.clone(),
        // Whether people with fresh passwords get in is asked, when it is asked whether anybody does.
        _ if ours == Answer::Yes => control.refusal.iter().copied().chain([control.success]).collect(),
        _ => control.otherwise.iter().copied().chain([control.success]).collect(),
    }
}

/// Whether `service notin LIST` or `service in LIST` does not hold for the service.
fn is_out(words: &[&str], service: &str) -> bool {
    words.windows(3).any(|window| match window {
        ["service", "notin", list] => list.split(':').any(|one| one == service),
        ["service", "in", list] => list.split(':').all(|one| one != service),
        _ => false,
    })
}

/// Where an action leads: `_pam_dispatch_aux` of libpam.
fn after(stack: &[Entry], at: usize, level: u32, impression: Impression, action: Action) -> Vec<(usize, Impression)> {
    let behind_substack = || {
        let rest = stack.iter().enumerate().skip(at + 1);
        rest.into_iter().find(|(_, entry)| entry.level < level).map_or(stack.len(), |(index, _)| index)
    };
    match action {
        Action::Ok => vec![(at + 1, positive(impression))],
        Action::Done if impression == Impression::Negative => vec![(at + 1, impression)],
        Action::Done => vec![(behind_substack(), Impression::Positive)],
        Action::Bad => vec![(at + 1, Impression::Negative)],
        Action::Die => vec![(behind_substack(), Impression::Negative)],
        Action::Ignore => vec![(at + 1, impression)],
        // In a substack what holds is what was so before it: anything.
        Action::Reset if level > 0 => vec![(at + 1, Impression::Undefined), (at + 1, Impression::Positive)],
        Action::Reset => vec![(at + 1, Impression::Undefined)],
        Action::Jump(count) => jump(stack, at, level, count).map(|to| (to, impression)).into_iter().collect(),
    }
}

fn positive(impression: Impression) -> Impression {
    if impression == Impression::Undefined { Impression::Positive } else { impression }
}

/// A substack counts as one; a jump beyond the end of its stack fails.
fn jump(stack: &[Entry], at: usize, level: u32, count: usize) -> Option<usize> {
    let level_at = |index: usize| stack.get(index).map(|entry| entry.level);
    let mut at = at;
    for _ in 0..count {
        level_at(at + 1).filter(|next| *next >= level)?;
        at += 1;
        while level_at(at + 1).is_some_and(|next| next > level) {
            at += 1;
        }
    }
    Some(at + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::pam::{files_of, stack};
    use super::*;
    use crate::cli::enable::Phase;

    const DEBIAN: &str = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n\
        account requisite pam_deny.so\naccount required pam_permit.so\n";
    const RHEL: &str = "account required pam_unix.so\naccount sufficient pam_localuser.so\n\
        account sufficient pam_usertype.so issystem\naccount required pam_permit.so\n";
    const OURS: &str = "account required pam_twinlock.so\n";

    fn passes(text: &str, ours: Answer) -> bool {
        let files = files_of(&[("sudo", text), ("debian", DEBIAN), ("rhel", RHEL)]);
        way_through(&stack(&files, "sudo", Phase::Account).unwrap(), "sudo", ours).is_some()
    }

    /// The stacks as `enable` leaves them: nobody passes against our word, everybody with it.
    #[test]
    fn a_stack_with_our_line_first_holds_on_debian_and_rhel() {
        for rest in [
            "@include debian\n",
            "account include rhel\n",
            "account substack rhel\n",
            "account sufficient x.so\n",
            "account [default=done] x.so\n",
        ] {
            let text = format!("{OURS}{rest}");
            assert!(!passes(&text, Answer::No), "{text}");
            assert!(passes(&text, Answer::Yes), "{text}");
        }
    }

    // control: a_stack_with_our_line_first_holds_on_debian_and_rhel
    #[test]
    fn every_way_around_our_line_is_seen() {
        for text in [
            "account required x.so\n".to_owned(),
            format!("account sufficient x.so\n{OURS}"),
            format!("@include debian\n{OURS}"),
            format!("account include rhel\n{OURS}"),
            format!("account [success=1 default=bad] x.so\n{OURS}account required pam_permit.so\n"),
            format!("account [success=2 default=bad] x.so\n{OURS}account required x.so\naccount required x.so\n"),
            format!("account [success=done default=bad] x.so\n{OURS}"),
            format!("{OURS}account [default=reset] x.so\naccount required pam_permit.so\n"),
            "account optional pam_twinlock.so\naccount required pam_permit.so\n".to_owned(),
            "account sufficient pam_twinlock.so\naccount required pam_permit.so\n".to_owned(),
            "account [success=ok module_unknown=ignore default=bad] pam_twinlock.so\naccount required pam_permit.so\n"
                .to_owned(),
            "account [success=ok default=1] pam_twinlock.so\naccount required x.so\naccount required x.so\n".to_owned(),
        ] {
            assert!(passes(&text, Answer::No), "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_way_around_and_is_none() {
        for text in [
            // Done in a substack ends the substack alone.
            format!("account substack rhel\n{OURS}"),
            format!("account sufficient pam_deny.so\n{OURS}"),
            format!("account sufficient pam_rootok.so\n{OURS}"),
            format!("account sufficient pam_succeed_if.so uid = 0 use_uid quiet\n{OURS}"),
            format!(
                "account [success=1 default=ignore] pam_succeed_if.so quiet service notin sudo:su\n{OURS}@include debian\n"
            ),
            format!("account [success=1 default=ignore] pam_permit.so\naccount requisite pam_deny.so\n{OURS}"),
            // A jump beyond the end refuses.
            format!("account [success=5 default=bad] x.so\n{OURS}"),
            "account required pam_deny.so\n".to_owned(),
            "account optional pam_deny.so\n".to_owned(),
        ] {
            assert!(!passes(&text, Answer::No), "{text}");
        }
        let other = "account [success=1 default=ignore] pam_succeed_if.so quiet service notin su\n";
        assert!(passes(&format!("{other}{OURS}@include debian\n"), Answer::No), "control: another service's list");
        assert!(!passes(&format!("{OURS}account requisite pam_deny.so\n"), Answer::Yes), "nobody gets in");
    }
}
