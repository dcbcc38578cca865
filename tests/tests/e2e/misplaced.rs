//! Lines of ours in the wrong place, and services that we do not know: never a door.

use twinlock_tests::here;
use twinlock_tests::installation::Plan;
use twinlock_tests::ns::in_namespace;

/// Catalogue: P11 (control: inline)
#[test]
fn authenticate_is_never_a_door_even_as_sufficient() {
    in_namespace(here!(), |bed| {
        let _installation = Plan::new().start(bed);
        bed.sudoers("");
        // The stock stack asks for the password first; a sufficient line of ours in front of it
        // must not answer in its place.
        for (auth, opens) in [("sufficient pam_permit.so", true), ("sufficient pam_twinlock.so", false)] {
            bed.write(
                "/etc/pam.d/sudo",
                format!("auth {auth}\nauth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n"),
            );
            let done = bed.run("alice", &["sudo", "-S", "-p", "", "id", "-un"]);
            assert_eq!(done.stdout == "root\n", opens, "{auth}: {done:?}");
        }
    });
}

#[test]
fn an_unknown_service_is_refused() {
    in_namespace(here!(), |bed| {
        let _installation = Plan::new().start(bed);
        let stack = |module: &str| {
            format!("auth required pam_permit.so\naccount required {module}\nsession required {module}\n")
        };
        for (module, opens) in [("pam_permit.so", true), ("pam_twinlock.so", false)] {
            bed.write("/etc/pam.d/somewhere", stack(module));
            for step in ["acct_mgmt", "open_session"] {
                let done = bed.run("root", &["pamtester", "somewhere", "alice", step]);
                assert_eq!(done.ok(), opens, "{module} {step}: {done:?}");
            }
        }
    });
}
