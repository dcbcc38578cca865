//! What packages are made of, judged without building one: file lists, units, scripts of maintainers,
//! profiles, manual pages, the bill of materials. Whole packages are installed on booted systems by
//! `make test-system`; `make packages` itself runs lintian and rpmlint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use twinlock_tests::here;
use twinlock_tests::ns::in_namespace;
use twinlock_tests::world::{built_module, workspace};

fn packaging() -> PathBuf {
    workspace().join("packaging")
}

fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).current_dir(workspace()).env("LC_ALL", "C");
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.as_ref().display()))
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A copy of packaging's units and the script that judges them.
fn copy_of_units() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for folder in ["systemd", "scripts"] {
        fs::create_dir(copy.path().join(folder)).unwrap();
        for file in fs::read_dir(packaging().join(folder)).unwrap().flatten() {
            fs::copy(file.path(), copy.path().join(folder).join(file.file_name())).unwrap();
        }
    }
    copy
}

#[test]
fn every_unit_is_accepted_and_less_exposed_than_its_bound() {
    let judged = run(packaging().join("scripts/check-units"), &[]);
    assert!(judged.status.success(), "{}", words(&judged));
    assert_eq!(words(&judged).matches(": ok").count(), 3, "{}", words(&judged));

    // The control is the same eyes, on units with one line less or one misspelt
    for (line, instead) in [("ProtectSystem=strict\n", ""), ("ProtectSystem=strict\n", "ProtectSystm=strict\n")] {
        let copy = copy_of_units();
        let unit = copy.path().join("systemd/twinlock-gatewayd.service");
        let text = read(&unit);
        assert!(text.contains(line));
        fs::write(&unit, text.replace(line, instead)).unwrap();
        assert!(!run(copy.path().join("scripts/check-units"), &[]).status.success(), "control: {instead:?}");
    }
}

#[test]
fn programs_run_with_old_libraries_and_the_module_is_linked_and_exports_its_hooks_alone() {
    let module = built_module();
    let module = module.to_str().unwrap();
    let check = packaging().join("scripts/check-elf");
    let judged = run(&check, &[module]);
    assert!(judged.status.success(), "{}", words(&judged));
    // The control is another floor, and a library of the system in the module's place
    let mut older = Command::new(&check);
    let older = older.arg(module).env("GLIBC_FLOOR", "2.30").output().unwrap();
    assert!(words(&older).contains("above 2.30"), "{}", words(&older));
    let dir = tempfile::tempdir().unwrap();
    let stranger = dir.path().join("pam_twinlock.so");
    fs::copy("/lib/x86_64-linux-gnu/libpam.so.0", &stranger).unwrap();
    assert!(!run(&check, &[stranger.to_str().unwrap()]).status.success(), "control");
}

/// `mode source destination` of every list, with the package.
fn lists() -> Vec<(String, Vec<String>)> {
    let mut lists = Vec::new();
    for file in fs::read_dir(packaging().join("files")).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let text = read(file.path());
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        if !name.contains('.') {
            lists.extend(lines.map(|line| (name.clone(), line.split(' ').map(str::to_owned).collect())));
        }
    }
    lists
}

/// Catalogue: K1 (control: inline)
#[test]
fn installing_puts_nothing_where_authentication_is_configured() {
    let lists = lists();
    let mut sources = BTreeSet::new();
    for (package, fields) in &lists {
        let [mode, source, destination] = fields.as_slice() else { panic!("{package}: {fields:?}") };
        assert!(matches!(mode.as_str(), "0644" | "0755" | "@MODE_SO@"), "{package}: {mode}");
        if !source.starts_with('@') {
            assert!(workspace().join(source).is_file(), "{package}: {source} is not there");
        }
        for place in ["etc/pam.d", "pam-configs", "sudoers", "authselect", "etc/ssh", "etc/security"] {
            assert!(!destination.contains(place), "{package}: {destination}");
        }
        // What is in /etc is a conffile, and stays when the package goes.
        assert!(!destination.starts_with("etc/") || destination.starts_with("etc/apparmor.d/"), "{destination}");
        sources.insert(source.as_str());
    }
    // The same eyes see what is installed, and nothing that should be is missing
    assert!(lists.iter().any(|(_, fields)| fields[2].starts_with("@SECURITY@/pam_twinlock.so")));
    for folder in ["systemd", "sysusers.d", "tmpfiles.d", "man", "libexec"] {
        for file in fs::read_dir(packaging().join(folder)).unwrap().flatten() {
            let source = format!("packaging/{folder}/{}", file.file_name().to_str().unwrap());
            assert!(sources.contains(source.as_str()), "{source} is in no package");
        }
    }
}

/// Catalogue: K3 (control: inline)
#[test]
fn the_package_stays_while_a_stack_names_the_module_or_its_helper_fails() {
    in_namespace(here!(), |bed| {
        bed.write("/root/before-removal", read(packaging().join("libexec/before-removal")));
        let remove = |prepare: &str| {
            let script = format!("{prepare}\nsh /root/before-removal");
            let done = bed.run("root", &["unshare", "-m", "sh", "-c", &script]);
            (done.ok(), done.stderr.clone())
        };
        let helper = |body: &str| {
            format!(
                "mount -t tmpfs none /usr/libexec && mkdir /usr/libexec/twinlock\n\
                 printf '#!/bin/sh\\n{body}\\n' >/usr/libexec/twinlock/twinlock-pam\n\
                 chmod 755 /usr/libexec/twinlock/twinlock-pam"
            )
        };
        assert!(bed.run("root", &["sh", "-c", "sed -i /pam_twinlock/d /etc/pam.d/*"]).ok());
        bed.write("/etc/pam.d/x", "# pam_twinlock.so was here\naccount required pam_permit.so\n");
        assert!(remove(&helper("exit 0")).0, "control: {}", remove("").1);
        let (gone, said) = remove(&helper("exit 3"));
        assert!(!gone && said.contains("unhook failed"), "{said}");
        bed.write("/etc/pam.d/x", "account required pam_permit.so\naccount required pam_twinlock.so\n");
        let (gone, said) = remove(&helper("exit 0"));
        assert!(!gone && said.contains("/etc/pam.d/x"), "a helper that did not see it: {said}");
        bed.write("/etc/pam.d/y.dpkg-old", "account required pam_twinlock.so\n");
        let (gone, _) = remove(&helper("sed -i /twinlock/d /etc/pam.d/x"));
        assert!(gone, "control: the helper takes it out, and a copy that dpkg left is no service");
    });
}

/// Catalogue: K6 (control: inline)
#[test]
fn a_version_below_the_state_on_disk_is_refused_before_it_is_unpacked() {
    in_namespace(here!(), |bed| {
        for (package, state) in [
            ("libpam-twinlock", "/var/lib/twinlock"),
            ("twinlock-agent", "/var/lib/twinlock"),
            ("twinlock-gatewayd", "/var/lib/twinlock-gatewayd"),
        ] {
            let script = read(packaging().join(format!("debian/{package}.preinst"))).replace("@STATE_VERSION@", "4");
            bed.write("/root/preinst", script);
            let preinst = || bed.run("root", &["sh", "/root/preinst", "upgrade", "9.0"]);
            fs::create_dir_all(state).unwrap();
            assert!(preinst().ok(), "control: no state at all: {}", preinst().stderr);
            for (found, accepted) in [("4\n", true), ("3", true), ("5", false), ("", false), ("four", false)] {
                bed.write(format!("{state}/state-version"), found);
                assert_eq!(preinst().ok(), accepted, "{package}, {found:?}: {}", preinst().stderr);
            }
            fs::remove_file(format!("{state}/state-version")).unwrap();
        }
        // Root's scripts touch no file below what a daemon's user owns, where a link could lie.
        let debian = packaging().join("debian");
        for file in ["twinlock-gatewayd.preinst", "twinlock-gatewayd.postinst"].map(|name| debian.join(name)) {
            let script = read(&file);
            assert!(script.contains("/var/lib/twinlock-gatewayd/state-version"), "control: {}", file.display());
            assert!(!script.contains("/var/lib/twinlock-gateway/"), "{}", file.display());
        }
    });
}

#[test]
fn profiles_are_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    let parser = |file: &Path| run("/usr/sbin/apparmor_parser", &["-Q", "-K", file.to_str().unwrap()]);
    let profile = packaging().join("apparmor/usr.sbin.twinlock-gatewayd");
    assert!(parser(&profile).status.success(), "{}", words(&parser(&profile)));
    let broken = dir.path().join("profile");
    fs::write(&broken, read(&profile).replace("network inet stream,", "network inet strem,")).unwrap();
    assert!(!parser(&broken).status.success(), "control");

    let selinux = packaging().join("scripts/build-selinux");
    let built = run(&selinux, &[dir.path().to_str().unwrap()]);
    assert!(built.status.success(), "{}", words(&built));
    assert!(fs::metadata(dir.path().join("twinlock.pp")).unwrap().len() > 1000);
    let te = dir.path().join("twinlock.te");
    fs::write(&te, read(packaging().join("selinux/twinlock.te")).replace("type init_t;", "")).unwrap();
    let out = dir.path().join("x.mod");
    let checked = run("checkmodule", &["-M", "-m", "-o", out.to_str().unwrap(), te.to_str().unwrap()]);
    assert!(!checked.status.success(), "control");
}

#[test]
fn manual_pages_name_every_key_of_the_configurations() {
    let keys = [
        ("twinlock-module.toml.5", "pam-module/src/config.rs", "(\"", "\", Value::"),
        ("twinlock-agent.toml.5", "gatewayd/src/agent/config.rs", "    pub ", ": "),
        ("twinlock-reaper.toml.5", "gatewayd/src/reaper/config.rs", "    pub ", ": "),
    ];
    for (page, source, before, after) in keys {
        let page = read(packaging().join("man").join(page));
        let source = read(workspace().join(source));
        let source = source.split("#[cfg(test)]").next().unwrap();
        let named = source.lines().filter_map(|line| line.split_once(before)?.1.split_once(after).map(|found| found.0));
        let named: BTreeSet<_> = named.filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
        assert!(named.len() > 4, "control: {named:?}");
        for key in named.iter().filter(|key| **key != "key_is_credential" && **key != "limits") {
            assert!(page.contains(key), "{key}");
        }
    }
}

/// Name and version of what a tree of dependencies lists, the crate itself left out.
fn linked(member: &str) -> BTreeSet<(String, String)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = ["tree", "--locked", "-p", member, "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = run(PathBuf::from(cargo), &tree);
    assert!(tree.status.success(), "{}", words(&tree));
    let text = String::from_utf8(tree.stdout).unwrap();
    let crates = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    });
    crates.collect()
}

/// Catalogue: K7 (control: inline)
#[test]
fn the_bill_of_materials_lists_what_is_linked_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let made = run(packaging().join("scripts/sbom"), &[dir.path().to_str().unwrap()]);
    assert!(made.status.success(), "{}", words(&made));
    for (file, member) in [("libpam-twinlock", "pam-twinlock"), ("twinlock-gatewayd", "twinlock-gatewayd")] {
        let text = read(dir.path().join(format!("sbom/{file}.cdx.json")));
        let bill: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listed = bill["components"].as_array().unwrap().iter();
        let listed = listed.filter(|component| component["scope"] == "required");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let listed: BTreeSet<_> = listed.map(|part| (text(&part["name"]), text(&part["version"]))).collect();
        assert_eq!(listed, linked(member));
        assert!(listed.len() > 20 && !listed.contains(&("openssl".into(), "1".into())), "control");
        for part in bill["components"].as_array().unwrap() {
            let ours = text(&part["name"]).starts_with("twinlock-");
            assert_ne!(part["hashes"][0]["content"].is_string(), ours, "{part}");
        }
        assert!(!bill.to_string().contains(workspace().to_str().unwrap()), "a path of this machine");
    }
    assert_ne!(linked("pam-twinlock"), linked("twinlock-gatewayd"), "control");
}
