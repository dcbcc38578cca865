//! `twinlock person` and `twinlock device`: invite, remove, suspend, lift, import. Each is a proposal
//! that two people sign on the page; a link alone enrols nothing that counts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nix::unistd::{Group, User};
use twinlock_protocol::escape;
use twinlock_protocol::ids::{DeviceId, GroupName, PersonId};
use twinlock_protocol::roster::{HumanMark, Person, PersonKind, ServiceOwner, Standing};
use twinlock_protocol::words::words;

use super::admin::{AdminArgs, post};
use super::output::{json, line, table};
use super::roster::{head, propose};
use super::{Failure, people, qr};
use crate::api::changes::{InviteAnswer, InviteBody, NewBody};
use crate::enrol::compose::Role;
use crate::roster::op::Op;

/// `twinlock person`.
#[derive(Subcommand)]
pub enum PersonCommand {
    /// A one-time link for somebody to enrol a device: a first, a second, or in place of a lost one
    Invite(InviteArgs),
    /// Propose that somebody leaves the roster
    Remove {
        /// The person's id
        person: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose that somebody stops counting (on the page, one person can do it at once)
    Suspend {
        /// The person's id
        person: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose that somebody counts again
    Lift {
        /// The person's id
        person: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose many people who only ask
    Import {
        /// A file of [[person]] tables (id, name, logins, role = "requester", groups, owner)
        #[arg(required_unless_present = "nss", conflicts_with = "nss")]
        file: Option<PathBuf>,
        /// The members of a group of this machine (files, LDAP, SSSD: whatever getent shows)
        #[arg(long, value_name = "GROUP")]
        nss: Option<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// `twinlock person invite`.
#[derive(Args)]
pub struct InviteArgs {
    /// The person's id
    person: String,
    /// Somebody new: the name that people know
    #[arg(long)]
    name: Option<String>,
    /// Somebody new: login names
    #[arg(long, value_delimiter = ',', requires = "name")]
    logins: Vec<String>,
    /// Somebody new: groups
    #[arg(long, value_delimiter = ',', requires = "name")]
    groups: Vec<String>,
    /// Somebody new: approves
    #[arg(long, requires = "name")]
    approver: bool,
    /// Somebody new: may ask
    #[arg(long, requires = "name")]
    requester: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// `twinlock device`.
#[derive(Subcommand)]
pub enum DeviceCommand {
    /// Every enrolled device
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose that a device leaves: lost, sold, broken
    Remove {
        /// The device's id
        device: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &PersonCommand) -> Result<(), Failure> {
    match command {
        PersonCommand::Invite(arguments) => invite(arguments),
        PersonCommand::Remove { person, admin } => propose(admin, vec![Op::RemovePerson { person: id(person)? }]),
        PersonCommand::Suspend { person, admin } => propose(admin, vec![Op::Suspend { person: id(person)?, by: None }]),
        PersonCommand::Lift { person, admin } => propose(admin, vec![Op::Lift { person: id(person)? }]),
        PersonCommand::Import { file, nss, admin } => import(file.as_ref(), nss.as_deref(), admin),
    }
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run_device(command: &DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { admin } => devices(admin),
        DeviceCommand::Remove { device, admin } => {
            let device = DeviceId::new(device).ok_or_else(|| Failure::plain(format!("{device} is no device id")))?;
            let (roster, _) = head(admin)?;
            let owner = roster.persons.iter().find(|one| one.devices.iter().any(|own| own.id == device));
            let owner = owner.ok_or_else(|| {
                Failure::new(format!("the roster has no device {device}"), "twinlock device list shows them")
            })?;
            propose(admin, vec![Op::RemoveDevice { person: owner.id.clone(), device }])
        }
    }
}

fn id(text: &str) -> Result<PersonId, Failure> {
    PersonId::new(text).ok_or_else(|| {
        let shown = escape::visible(text.as_bytes());
        Failure::new(format!("{shown} is no id"), "an id is lower-case letters, digits, dot, dash and underscore")
    })
}

fn group(text: &str) -> Result<GroupName, Failure> {
    GroupName::new(text).ok_or_else(|| Failure::plain(format!("{text} is no group: lower-case letters, digits, dash")))
}

/// Makes a link and draws it.
///
/// # Errors
/// A [`Failure`].
pub fn invite(arguments: &InviteArgs) -> Result<(), Failure> {
    let new = match &arguments.name {
        None => None,
        Some(name) => Some(NewBody {
            name: name.clone(),
            logins: arguments.logins.clone(),
            groups: arguments.groups.iter().map(|name| group(name)).collect::<Result<_, _>>()?,
            approver: arguments.approver,
            requester: arguments.requester,
        }),
    };
    let body = InviteBody { person: id(&arguments.person)?, new };
    let made: InviteAnswer = post(&arguments.admin.socket, "/v1/invites", &body)?;
    if arguments.admin.json {
        json(&made);
        return Ok(());
    }
    line(&format!("for {}, for {} minutes, once:", escape::visible(made.name.as_bytes()), made.valid_s / 60));
    // Upper case makes a smaller code; scheme and host do not mind, the path is upper case.
    qr::lines(&made.link.to_ascii_uppercase()).into_iter().flatten().for_each(|row| line(&row));
    line(&made.link);
    line("then two people compare the words on that phone and sign, on the page");
    Ok(())
}

fn devices(admin: &AdminArgs) -> Result<(), Failure> {
    let (roster, _) = head(admin)?;
    if admin.json {
        let all: Vec<_> = roster
            .persons
            .iter()
            .flat_map(|one| {
                one.devices.iter().map(move |device| {
                    serde_json::json!({
                        "person": one.id, "device": device.id, "label": device.label,
                        "assurance": device.assurance(), "words": words(&device.keys_digest()),
                    })
                })
            })
            .collect();
        json(&all);
        return Ok(());
    }
    let rows: Vec<_> = roster
        .persons
        .iter()
        .flat_map(|one| {
            one.devices.iter().map(|device| {
                vec![
                    device.id.to_string(),
                    one.id.to_string(),
                    device.label.clone(),
                    format!("{:?}", device.assurance()),
                    words(&device.keys_digest()).join(" "),
                ]
            })
        })
        .collect();
    line(table(&["DEVICE", "PERSON", "LABEL", "ASSURANCE", "WORDS"], &rows).trim_end());
    Ok(())
}

fn import(file: Option<&PathBuf>, nss: Option<&str>, admin: &AdminArgs) -> Result<(), Failure> {
    let wanted = match (file, nss) {
        (Some(file), _) => from_file(file)?,
        (None, Some(group)) => from_nss(group)?,
        (None, None) => return Err(Failure::plain("give a file or --nss GROUP")),
    };
    let (roster, _) = head(admin)?;
    // Who is there already stays as they are; people are told, not guessed about.
    let (known, new): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|one| roster.person(&one.id).is_some());
    if !known.is_empty() && !admin.json {
        let names: Vec<String> = known.iter().map(|one| one.id.to_string()).collect();
        line(&format!("in the roster already, unchanged: {}", names.join(", ")));
    }
    if new.is_empty() {
        return Err(Failure::plain("nobody new"));
    }
    propose(admin, new.into_iter().map(|person| Op::AddPerson { person: Box::new(person) }).collect())
}

fn from_file(path: &std::path::Path) -> Result<Vec<Person>, Failure> {
    people::file(path)?
        .into_iter()
        .map(|one| match one.role {
            Role::Requester => Ok(Person {
                id: one.id,
                name: one.name,
                kind: match one.owner {
                    None => PersonKind::Human(HumanMark {}),
                    Some(owner) => PersonKind::Service(ServiceOwner { owner }),
                },
                logins: one.logins,
                groups: one.groups,
                may_request: true,
                standing: Standing::Active,
                devices: Vec::new(),
            }),
            Role::Approver | Role::Both => Err(Failure::new(
                format!("{} is to approve: approvers enrol a device", one.id),
                format!("twinlock person invite {} --name … --approver", one.id),
            )),
        })
        .collect()
}

fn from_nss(name: &str) -> Result<Vec<Person>, Failure> {
    let group = Group::from_name(name)?
        .ok_or_else(|| Failure::new(format!("there is no group {name}"), "getent group lists them"))?;
    let mut people = Vec::new();
    for login in group.mem {
        let user = User::from_name(&login)?.ok_or_else(|| {
            Failure::plain(format!("{} is a member of {name}, but no user", escape::visible(login.as_bytes())))
        })?;
        // GECOS: the full name up to the first comma.
        let gecos = user.gecos.to_string_lossy().split(',').next().unwrap_or_default().trim().to_owned();
        let shown = if gecos.is_empty() { login.clone() } else { format!("{gecos} ({login})") };
        people.push(Person {
            id: id(&login.to_lowercase())?,
            name: shown,
            kind: PersonKind::Human(HumanMark {}),
            logins: vec![login],
            groups: Vec::new(),
            may_request: true,
            standing: Standing::Active,
            devices: Vec::new(),
        });
    }
    if people.is_empty() {
        return Err(Failure::new(
            format!("{name} has no members that getent lists"),
            "users whose primary group it is are not listed; write a file for them",
        ));
    }
    Ok(people)
}
