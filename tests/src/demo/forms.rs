//! The demo as a whole: which of its forms is wanted, and each of them in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::bed::Bed;
use crate::demo::ceremony::{self, Front};
use crate::demo::proof::Proof;
use crate::demo::story::Story;
use crate::demo::{shell, tour};
use crate::installation::AGENT_PORT;

/// Who holds the stand-in phones.
const APPROVERS: &[&str] = &["bob", "carol"];

/// Which form of the demo.
pub struct How {
    out: PathBuf,
    form: Form,
}

enum Form {
    /// Two stand-in phones, from the ceremony to the audit trail.
    Told,
    /// The same setting, for somebody to try.
    ShellMe,
    /// People with their own phones.
    Real(Front),
}

impl How {
    /// Reads SHELL_ME, PHONES, ORIGIN, TLS_CERT and TLS_KEY. `out` is where results go. Called
    /// outside first: certificate and key may lie where the bed has something else.
    ///
    /// # Errors
    /// What is missing, or what is meant by none of the forms.
    pub fn from_environment(out: &Path, outside: bool) -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let form = match (variable("PHONES").as_deref(), variable("SHELL_ME").as_deref()) {
            (Some("real"), _) => {
                let needed = |name: &str| variable(name).ok_or(format!("PHONES=real needs {name}=…"));
                let read = |name: &str| carry(&needed(name)?, &out.join(name), outside);
                let origin = needed("ORIGIN")?;
                let front = Front { listen: listen(&origin)?, chain: read("TLS_CERT")?, key: read("TLS_KEY")?, origin };
                Form::Real(front)
            }
            (Some(other), _) => return Err(format!("PHONES={other} is unknown: leave it out, or say real")),
            (None, None | Some("0")) => Form::Told,
            (None, Some(_)) => Form::ShellMe,
        };
        Ok(Self { out: out.to_owned(), form })
    }

    /// Real phones come in over the host's own network.
    #[must_use]
    pub fn needs_host_network(&self) -> bool {
        matches!(self.form, Form::Real(_))
    }
}

/// Reads a file outside and leaves it, for us alone, where the inside finds it and removes it.
fn carry(path: &str, copy: &Path, outside: bool) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let on = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    if !outside {
        return std::fs::read(copy).map_err(on(copy));
    }
    let bytes = std::fs::read(path).map_err(on(Path::new(path)))?;
    let dir = copy.parent().unwrap_or(copy);
    std::fs::create_dir_all(dir).map_err(on(dir))?;
    let _ = std::fs::remove_file(copy);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, &bytes)).map_err(on(copy))?;
    Ok(bytes)
}

/// Every address, at the origin's port.
fn listen(origin: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("ORIGIN={origin}: write https://HOST[:PORT]");
    let authority = origin.strip_prefix("https://").ok_or_else(wrong)?;
    let port = match authority.rsplit_once(':') {
        None => 443,
        Some((_, port)) => port.parse().map_err(|_| wrong())?,
    };
    Ok(SocketAddr::from(([0, 0, 0, 0], port)))
}

/// Where the summary is made; the program's caller gets a copy.
#[must_use]
pub fn summary(out: &Path) -> PathBuf {
    out.join("summary.json")
}

/// Runs it, inside.
pub fn run(bed: &Bed, how: &How) {
    let story = Story::new();
    println!("Twinlock: a lock that takes two keys.");
    println!("A private namespace on this machine; its PAM and sudo configuration is not touched.");
    match &how.form {
        Form::Told => told(bed, how, &story),
        Form::ShellMe => lent(bed, &story),
        Form::Real(front) => {
            for copy in ["TLS_CERT", "TLS_KEY"] {
                let _ = std::fs::remove_file(how.out.join(copy));
            }
            real(bed, front, &story);
        }
    }
}

fn told(bed: &Bed, how: &How, story: &Story) {
    let mut proof = Proof::begin(&summary(&how.out)).expect("a directory for results");
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let (front, site) = ceremony::private_front(bed);
    story.chapter("The ceremony: roster version 1");
    let world = ceremony::prepare(bed, story, &front);
    let mut init = ceremony::init(bed, &front, APPROVERS);
    let holders = ceremony::phones(&site, APPROVERS);
    story.tell("two phones: headless Chromium, each with its own profile and virtual authenticator");
    ceremony::attend(&mut init, story, &holders);
    let setting = ceremony::open(bed, world, story, &front, &init, &tour::short_life());
    drop(init);
    tour::elevate(bed, &setting, &site, story, &holders, &mut proof);
    drop(setting);
    drop(holders);
    tour::cost(bed, story, &mut proof);
}

fn lent(bed: &Bed, story: &Story) {
    let out = bed.out_dir();
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let (front, site) = ceremony::private_front(bed);
    let world = ceremony::prepare(bed, story, &front);
    let mut init = ceremony::init(bed, &front, APPROVERS);
    let holders = ceremony::phones(&site, APPROVERS);
    ceremony::attend(&mut init, story, &holders);
    let setting = ceremony::open(bed, world, story, &front, &init, "reason = \"optional\"\nttl_s = 60\n");
    drop(init);
    tour::install_command(bed);
    let here = std::env::current_exe().expect("our own path");
    println!(
        "\nYou are alice on web01. Try: sudo id, sudo -s, sudo maintenance (it does not want to end), sudo id | cat.\n\
         You are asked for a reason (Enter: none). An elevation lives for 60 seconds here.\n\
         Bob and carol have a phone each:\n\
         \x20 press Ctrl-] and type    bob scan    then  bob approve   (or: bob read, bob deny not today)\n\
         \x20 then the same for carol; or from another terminal of this machine, as root:\n\
         \x20 {} phone bob scan\n\
         Leave with exit or Ctrl-D; then comes the audit trail.\n",
        here.display()
    );
    let shell = shell::Lent::open(bed, &holders);
    if let Err(error) = shell.lend(&shell::socket(&out)) {
        panic!("{error}");
    }
    audit(bed);
    drop(setting);
}

/// For people with their own phones. Nobody has tested this here: it takes a name that
/// phones reach and a certificate that they trust.
fn real(bed: &Bed, front: &Front, story: &Story) {
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    println!(
        "Real phones: {} must lead to this machine, port {}, with a certificate that phones trust.\n\
         Untested by us for want of phones; agents' port {AGENT_PORT} is opened as well.\n\
         Two people enrol now, as bob and carol. Scan your own code, nobody else's.",
        front.origin,
        front.listen.port()
    );
    let world = ceremony::prepare(bed, story, front);
    let mut init = ceremony::init(bed, front, APPROVERS);
    let status = init.attach().expect("a terminal to show the ceremony on");
    assert!(status.success(), "twinlock init ended with {}", ceremony::ended(status));
    let setting = ceremony::open(bed, world, story, front, &init, "reason = \"optional\"\n");
    drop(init);
    println!("\nYou are alice on web01. Try: sudo id. Two people scan with their phones. Leave with exit.\n");
    let launch = bed.person("alice").env("PS1", "alice@web01:\\w$ ");
    let mut shell = crate::term::Terminal::open(&launch, &["bash", "--norc", "--noprofile", "-i"]);
    shell.attach().expect("a terminal to lend");
    audit(bed);
    drop(setting);
}

fn audit(bed: &Bed) {
    let said = ceremony::tool(bed, &["audit", "list"]);
    println!("\n$ twinlock audit list\n{}{}", said.stdout, said.stderr);
}
