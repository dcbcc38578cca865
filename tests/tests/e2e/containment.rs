//! A session stays in its leaf, and others' mounts keep nobody out of theirs.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use twinlock_protocol::ids::GrantId;
use twinlock_tests::installation::{Installation, Plan};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(20);
const WHERE: &str = "/tmp/where";

/// Runs `su -c` inside a granted sudo; where it ran.
fn cgroup_of_su(bed: &Bed, installation: &Installation<'_>) -> String {
    let _ = fs::remove_file(WHERE);
    let script = format!("grep ^0:: /proc/self/cgroup >{WHERE}");
    let mut terminal = bed.terminal("alice", &["sudo", "su", "-c", &script]);
    installation.approve_by_two(&terminal, "bob", "carol");
    assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    fs::read_to_string(WHERE).expect("it ran").trim_start_matches("0::").trim().to_owned()
}

fn is_leaf(name: &str) -> bool {
    let leaf = name.strip_prefix(&format!("/{}/", world::REAPER_CGROUP));
    leaf.and_then(|leaf| leaf.rsplit('/').next()).and_then(GrantId::from_text).is_some()
}

/// pam_systemd in the stack of the inner su does the like: logind moves the process to a scope of
/// its own.
///
/// Catalogue: X2 (control: inline)
#[test]
fn a_su_inside_a_grant_that_the_stack_carries_elsewhere_returns_to_its_leaf() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let elsewhere = bed.cgroup("user.slice/session-7.scope");
        bed.write("/usr/local/bin/carry-off", format!("#!/bin/sh\necho $PPID >{}/cgroup.procs\n", elsewhere.display()));
        fs::set_permissions("/usr/local/bin/carry-off", fs::Permissions::from_mode(0o755)).unwrap();
        let installation = Plan::new().start(bed);
        let carry = "account required pam_twinlock.so\nsession required pam_exec.so quiet /usr/local/bin/carry-off\n";

        bed.wire_service("su", &Tail::Lines(carry.to_owned()));
        assert_eq!(cgroup_of_su(bed, &installation), "/user.slice/session-7.scope", "control: it is carried off");

        bed.wire_service("su", &Tail::Lines(format!("{carry}session required pam_twinlock.so\n")));
        let stayed = cgroup_of_su(bed, &installation);
        assert!(is_leaf(&stayed), "{stayed}");

        // Where it can't return, it does not start.
        bed.write(
            "/usr/local/bin/carry-off",
            format!(
                "#!/bin/sh\necho $PPID >{}/cgroup.procs\nsed -i 's/^reaper_uid.*/reaper_uid = 1/' {}\n",
                elsewhere.display(),
                world::MODULE_TOML,
            ),
        );
        let _ = fs::remove_file(WHERE);
        let mut terminal = bed.terminal("alice", &["sudo", "su", "-c", &format!("touch {WHERE}")]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_ne!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert!(!Path::new(WHERE).exists());

        // Root's own su, outside of every grant, is carried wherever the stack likes.
        let mut terminal = bed.terminal("root", &["su", "-c", &format!("touch {WHERE}")]);
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    });
}

/// Anybody with FUSE mounts where and as what they like; the mount table of the host then holds
/// bytes that are no text.
///
/// Catalogue: P7 (control: inline)
#[test]
fn a_mount_whose_name_is_no_text_shuts_nobody_out() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let strange = Path::new(std::ffi::OsStr::from_bytes(b"/tmp/\xff"));
        fs::create_dir(strange).unwrap();
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("x"), strange, Some("tmpfs"), none, None::<&str>).unwrap();
        assert!(fs::read_to_string("/proc/self/mountinfo").is_err(), "control: it is no text");
        // The reaper starts under it, and a session is contained under it.
        let installation = Plan::new().start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert!(terminal.screen().contains("root"), "{}", terminal.screen());
    });
}

/// The reaper may write its warnings to a session's terminal, and nothing else.
#[test]
fn the_reaper_cannot_read_what_is_typed_in_a_session() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "sh", "-c", "echo $((6 * 7)) up; read word"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        // The command itself is on the screen before it runs; its answer is not.
        terminal.wait_for("42 up", LIMIT);
        let flags = terminal_flags(installation.reaper.pid());
        assert_eq!(flags.len(), 1, "control: it has the terminal: {flags:?}");
        let writes_only = nix::libc::O_WRONLY | nix::libc::O_NONBLOCK;
        assert_eq!(flags[0] & (nix::libc::O_ACCMODE | nix::libc::O_NONBLOCK), writes_only, "{:o}", flags[0]);
        terminal.send_line("");
        assert_eq!(terminal.exit_code(LIMIT), 0);
    });
}

/// The open flags of each terminal that a process has.
fn terminal_flags(pid: u32) -> Vec<i32> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let terminals = open.filter(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        target.starts_with("/dev/pts") || target == Path::new("/dev/tty")
    });
    terminals
        .map(|entry| {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().display())).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            i32::from_str_radix(flags.trim(), 8).unwrap()
        })
        .collect()
}
