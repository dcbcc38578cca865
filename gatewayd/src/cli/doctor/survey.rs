//! Everything that `twinlock doctor` looks at, gathered once, and all checks over it.

use std::path::Path;

use super::below::Below;
use super::facts::Facts;
use super::stacks::{self, Stacks};
use super::sudo::{self, Provider, Sudo};
use super::system::{self, System};
use super::ways::{self, Ways};
use super::{Finding, checks};
use crate::cli::enable::Gate;

/// What this machine does for Twinlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// People are asked before somebody becomes root here.
    pub host: bool,
    /// Requests of hosts come here.
    pub gateway: bool,
}

/// All facts.
#[derive(Debug)]
pub struct Survey {
    /// Whether sockets and programs were asked.
    pub running: bool,
    /// What this machine is.
    pub roles: Roles,
    /// What `enable` looks at, too.
    pub facts: Facts,
    /// PAM's files.
    pub stacks: Stacks,
    /// sudo.
    pub sudo: Sudo,
    /// What Twinlock needs around it.
    pub system: System,
    /// Other ways to root.
    pub ways: Ways,
}

impl Survey {
    /// Gathers everything below `root`.
    #[must_use]
    pub fn gather(root: &Path) -> Self {
        let below = Below::new(root);
        let facts = Facts::gather(root);
        let stacks = Stacks::gather(&below);
        let there = |path: &str| below.meta(path).is_some();
        let gateway = there("/etc/twinlock/gateway.toml");
        let host = !facts.modules.is_empty()
            || !stacks.gated().is_empty()
            || there("/etc/twinlock/module.toml")
            || there("/etc/twinlock/agent.toml");
        Self {
            running: below.is_running(),
            roles: Roles { host, gateway },
            facts,
            stacks,
            sudo: Sudo::gather(&below),
            system: System::gather(&below, host, gateway),
            ways: Ways::gather(&below),
        }
    }
}

/// All findings, those about Twinlock first.
#[must_use]
pub fn judge(survey: &Survey) -> Vec<Finding> {
    let facts = &survey.facts;
    let gated = survey.stacks.gated();
    let mut findings = Vec::new();
    if survey.roles.host {
        findings.extend(checks::module(facts));
        findings.extend(stacks::judge(&survey.stacks, !facts.modules.is_empty()));
        let of_sudo = checks::sudo_settings(facts);
        // Another system's visudo can't be asked.
        findings.extend(of_sudo.into_iter().filter(|one| survey.running || one.id != "sudoers"));
        findings.extend(checks::host_key(facts));
        findings.extend(checks::roster(facts));
        if survey.running {
            findings.extend(checks::daemons(facts));
        }
        findings.extend(checks::requesters(facts));
        findings.extend(checks::drill(facts));
    } else if survey.roles.gateway {
        findings.push(Finding::note(
            "role",
            "this is a gateway alone: nobody is asked before somebody becomes root on it",
            "if its own sudo is to be gated: install the host's packages, then twinlock host join TOKEN",
        ));
    } else {
        findings.push(Finding::failure(
            "role",
            "nothing of Twinlock is set up here",
            "install libpam-twinlock and twinlock-agent, then twinlock host join TOKEN; or twinlock init for a gateway",
        ));
    }
    if survey.roles.host || survey.roles.gateway {
        findings.extend(system::judge(&survey.system, facts, survey.roles.host));
    }
    if survey.sudo.provider != Provider::None {
        findings.extend(sudo::judge(&survey.sudo, gated.contains(&Gate::Sudo)));
    }
    findings.extend(ways::judge(&survey.ways));
    findings
}
