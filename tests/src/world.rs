//! An installed Twinlock inside a bed: where its files are, and how the build's products
//! get there. Paths are those of the packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bed::Bed;
use crate::mounts::make_dir;
use crate::proc::Launch;

/// The module's configuration.
pub const MODULE_TOML: &str = "/etc/twinlock/module.toml";
/// The key that signs requests: root only.
pub const HOST_KEY: &str = "/etc/twinlock/host.key";
/// The agent's configuration.
pub const AGENT_TOML: &str = "/etc/twinlock/agent.toml";
/// The agent's mTLS key: the agent only.
pub const AGENT_KEY: &str = "/etc/twinlock/agent.key";
/// The agent's mTLS certificate.
pub const AGENT_CRT: &str = "/etc/twinlock/agent.crt";
/// The reaper's configuration.
pub const REAPER_TOML: &str = "/etc/twinlock/reaper.toml";
/// The gateway's configuration.
pub const GATEWAY_TOML: &str = "/etc/twinlock/gateway.toml";
/// The roster's directory: two slot files, root writes, group `twinlock` reads.
pub const ROSTER_DIR: &str = "/var/lib/twinlock/roster";
/// What break-glass leaves, written by the reaper and, of drills, by root.
pub const BREAK_GLASS_DIR: &str = "/var/lib/twinlock/break-glass";
/// GrantRecords, written by the reaper.
pub const GRANTS_DIR: &str = "/var/lib/twinlock/grants";
/// The gateway's state.
pub const GATEWAY_DIR: &str = "/var/lib/twinlock-gateway";
/// Module to agent.
pub const AGENT_SOCK: &str = "/run/twinlock/agent.sock";
/// Module and agent to reaper.
pub const REAPER_SOCK: &str = "/run/twinlock/reaper.sock";
/// Anybody: own grants.
pub const USER_SOCK: &str = "/run/twinlock/user.sock";
/// Root to gateway.
pub const ADMIN_SOCK: &str = "/run/twinlock-gateway/admin.sock";
/// The daemon.
pub const DAEMON: &str = "/usr/sbin/twinlock-gatewayd";
/// What puts PAM's files back.
pub const HELPER: &str = "/usr/libexec/twinlock/twinlock-pam";
/// The command line.
pub const TOOL: &str = "/usr/bin/twinlock";
/// Where the reaper makes its leaf cgroups.
pub const REAPER_CGROUP: &str = "system.slice/twinlock-reaper.service";

/// The module's place, in this machine's multiarch directory.
pub fn module_path() -> PathBuf {
    let arch = std::env::consts::ARCH;
    PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/security/pam_twinlock.so"))
}

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests/ is a member of the workspace").to_owned()
}

/// Cargo's target directory: three levels above a test binary, two above another one.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("our own path");
    let profile = exe.ancestors().skip(1).find(|d| !d.ends_with("deps"));
    profile.and_then(Path::parent).expect("a binary lies in target/PROFILE").to_owned()
}

/// A daemon or tool of this build; `TWINLOCK_BIN_DIR` overrides the directory.
pub fn built_binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("TWINLOCK_BIN_DIR").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| target_dir().join("debug"));
    fresh(dir.join(name))
}

/// The module of this build, made alone so that features do not unify; `TWINLOCK_MODULE`
/// overrides its path.
pub fn built_module() -> PathBuf {
    let path = std::env::var_os("TWINLOCK_MODULE").map(PathBuf::from);
    fresh(path.unwrap_or_else(|| target_dir().join("module/module/libpam_twinlock.so")))
}

/// sudo-rs as built by `make deps`.
pub fn sudo_rs() -> PathBuf {
    let path = target_dir().join("sudo-rs/bin/sudo");
    assert!(path.exists(), "{} is missing: run `make deps`", path.display());
    path
}

/// Panics if the product is missing, or older than a source that cargo says it is made
/// of: a test must not judge yesterday's module.
fn fresh(path: PathBuf) -> PathBuf {
    let changed = |p: &Path| fs::metadata(p).and_then(|m| m.modified()).ok();
    let Some(made) = changed(&path) else {
        panic!("{} is missing: run `make build`", path.display());
    };
    let recipe = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    let sources = recipe.split_once(": ").map_or("", |(_, s)| s).split_whitespace();
    let newer = |at: Option<SystemTime>| at.is_some_and(|at| at > made);
    if let Some(source) = sources.map(Path::new).find(|s| newer(changed(s))) {
        let (path, source) = (path.display(), source.display());
        panic!("{path} is older than {source}: run `make build`");
    }
    path
}

/// An installed system. The bed's services are wired by [`Bed::wire`].
pub struct World<'b> {
    bed: &'b Bed,
}

impl<'b> World<'b> {
    /// Makes the directories with the packages' owners and modes; installs nothing.
    pub fn bare(bed: &'b Bed) -> World<'b> {
        let world = World { bed };
        world.dir("/etc/twinlock", "root", 0o755);
        world.dir("/var/lib/twinlock", "root", 0o755);
        world.dir(ROSTER_DIR, "root", 0o755);
        world.dir(GRANTS_DIR, "twinlock-reaper", 0o700);
        world.dir(BREAK_GLASS_DIR, "twinlock-reaper", 0o755);
        world.dir(GATEWAY_DIR, "twinlock-gateway", 0o700);
        world.dir("/run/twinlock", "root", 0o755);
        world.dir("/run/twinlock-gateway", "twinlock-gateway", 0o755);
        world
    }

    /// The directories, the module, the daemon and the command line.
    pub fn install(bed: &'b Bed) -> World<'b> {
        let world = World::bare(bed);
        bed.install(built_module(), module_path(), 0o644);
        bed.install(built_binary("twinlock-gatewayd"), DAEMON, 0o755);
        bed.install(built_binary("twinlock"), TOOL, 0o755);
        bed.install(built_binary("twinlock-pam"), HELPER, 0o755);
        world
    }

    /// The bed this stands in.
    pub fn bed(&self) -> &'b Bed {
        self.bed
    }

    /// How the gateway runs: its user, no capability.
    pub fn gateway(&self) -> Launch {
        let cgroup = self.bed.cgroup("system.slice/twinlock-gateway.service");
        Launch::service("twinlock-gateway", &[]).cgroup(cgroup)
    }

    /// How the agent runs: its user, no capability.
    pub fn agent(&self) -> Launch {
        let cgroup = self.bed.cgroup("system.slice/twinlock-agent.service");
        Launch::service("twinlock-agent", &[]).cgroup(cgroup)
    }

    /// How the reaper runs: its user, CAP_KILL, a cgroup subtree that it owns. The daemon
    /// itself lives in `…/main`, beside the leaves it makes (as `DelegateSubgroup=` does).
    pub fn reaper(&self) -> Launch {
        let tree = self.bed.cgroup(REAPER_CGROUP);
        let main = self.bed.cgroup(&format!("{REAPER_CGROUP}/main"));
        let launch = Launch::service("twinlock-reaper", &["kill"]);
        let uid = launch.uid();
        for dir in [&tree, &main] {
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                let path = dir.join(file);
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("delegation");
            }
        }
        launch.cgroup(main)
    }

    /// A directory with this owner (user and group of one name) and mode.
    fn dir(&self, path: &str, owner: &str, mode: u32) {
        make_dir(Path::new(path), mode).expect("a directory of the installed system");
        let uid = Launch::service(owner, &[]).uid();
        std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("its owner");
    }
}
