#![allow(clippy::unwrap_used, clippy::panic)]
use proptest::prelude::*;

use super::*;

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn sudo(line: &str) -> Result<Reading, DenyReason> {
    read(FrontEnd::Sudo, &words(line))
}

fn asked(front_end: FrontEnd, line: &str) -> Asked {
    match read(front_end, &words(line)) {
        Ok(Reading::Asks(asked)) => *asked,
        other => panic!("{line}: {other:?}"),
    }
}

fn text(args: &[Arg]) -> Vec<&str> {
    args.iter().map(|arg| arg.as_text().unwrap()).collect()
}

#[test]
fn queries_in_the_closed_grammar_pass() {
    for line in [
        "sudo -l",
        "sudo -ll",
        "sudo -l -l",
        "sudo -v",
        "sudo -K",
        "sudo -nv",
        "sudo -n -l",
        "sudo -kv",
        "sudo --list",
        "sudo --validate -n",
        "sudo -l -U bob",
        "sudo -v -u bob",
        "sudo -Sv",
        "/usr/bin/sudo -l",
        "apt#update -l",
    ] {
        assert_eq!(sudo(line), Ok(Reading::Query), "{line}");
    }
}

/// Catalogue: D5 (control: queries_in_the_closed_grammar_pass)
#[test]
fn commands_dressed_as_queries_are_asked_or_refused() {
    for line in [
        "sudo -p -l id",
        "sudo -p -v id",
        "sudo -p-l id",
        "sudo -pl id",
        "sudo --prompt -l id",
        "sudo -l id",
        "sudo -l -- id",
        "sudo -l A=b",
        "sudo -u -l id",
        "sudo -C 3 -l",
        "sudo -l -U -v",
        "sudo -lU bob",
        "sudo -l -u",
        "sudo -n",
        "sudo -k",
        "sudo -k id",
        "sudo -nk id",
        "sudo -l -p x",
        "sudo --lis",
        "sudo -l --",
        "sudo -l -",
        "sudo -l ",
        "sudo -l -u #0",
        "sudo -l -h host",
        "sudo -le f",
        "sudo -li",
        "sudo -sl",
        "sudoedit -l",
        "sudo -l -g disk",
        "sudo -T 5 -l",
        "sudo -D /x -l",
        "sudo -E -l",
        "sudo id -l",
        "sudo -- -l",
        "sudo -l=x",
        "sudo -l\n id",
    ] {
        assert_ne!(sudo(line), Ok(Reading::Query), "{line}");
    }
}

proptest! {
    /// Catalogue: D5 (control: queries_in_the_closed_grammar_pass)
    #[test]
    fn a_line_with_a_word_outside_the_grammar_never_passes(
        before in prop::collection::vec(prop::sample::select(vec!["-l", "-v", "-n", "--list", "-U", "bob"]), 0..4),
        word in "[ -~]{1,8}",
        after in prop::collection::vec(prop::sample::select(vec!["-l", "-v", "-n", "id"]), 0..3),
    ) {
        let known = ["--list", "--validate", "--remove-timestamp", "--reset-timestamp", "--non-interactive", "--stdin"];
        let cluster = word.len() > 1 && word.starts_with('-') && word.bytes().skip(1).all(|b| b"lvKknS".contains(&b));
        let name_after_user = before.last() == Some(&"-U") && before.iter().filter(|w| **w == "-U").count() == 1;
        prop_assume!(!cluster && !known.contains(&word.as_str()) && !name_after_user && word != "-U" && word != "-u");
        let mut line = vec![b"sudo".to_vec()];
        line.extend(before.iter().map(|w| w.as_bytes().to_vec()));
        line.push(word.as_bytes().to_vec());
        line.extend(after.iter().map(|w| w.as_bytes().to_vec()));
        // `-U x -U WORD` with a plain WORD is in the grammar: the assumption above left it out only
        // where -U stands once, so leave the others out too.
        prop_assume!(before.last() != Some(&"-U"));
        prop_assert_ne!(read(FrontEnd::Sudo, &line), Ok(Reading::Query));
    }

    /// Catalogue: D6 (control: targets_modes_and_commands_are_read_as_sudo_reads_them)
    #[test]
    fn no_argument_vector_panics_and_a_command_index_points_into_it(
        line in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..6),
        options in prop::collection::vec(prop::sample::select(vec!["-u", "-g", "-s", "-i", "-e", "-p", "--", "-b", "-", "-c"]), 0..5),
        su in any::<bool>(),
    ) {
        let mut argv = vec![b"sudo".to_vec()];
        argv.extend(options.iter().map(|w| w.as_bytes().to_vec()));
        argv.extend(line);
        let front_end = if su { FrontEnd::Su } else { FrontEnd::Sudo };
        if let Ok(Reading::Asks(asked)) = read(front_end, &argv)
            && let Some(at) = asked.view.command_at
        {
            prop_assert!((at as usize) < argv.len() && at > 0);
        }
    }
}

/// Line, mode, target, group, command.
type Case = (&'static str, Mode, TargetWord, Option<&'static str>, &'static [&'static str]);

struct Expect {
    mode: Mode,
    target: TargetWord,
    group: Option<&'static str>,
    command: &'static [&'static str],
}

fn check(front_end: FrontEnd, line: &str, expect: &Expect) {
    let asked = asked(front_end, line);
    let argv = words(line);
    let command: Vec<&str> = asked
        .view
        .command_at
        .map(|at| argv.iter().skip(at as usize).map(|word| std::str::from_utf8(word).unwrap()).collect())
        .unwrap_or_default();
    assert_eq!(asked.view.mode, expect.mode, "{line}");
    assert_eq!(asked.target, expect.target, "{line}");
    assert_eq!(asked.group.as_deref(), expect.group, "{line}");
    assert_eq!(command, expect.command, "{line}");
}

#[test]
fn targets_modes_and_commands_are_read_as_sudo_reads_them() {
    use Mode::{Command, Edit, LoginShell, Query, Shell};
    use TargetWord::{Invoker, Named, Root, Uid};
    let bob = || Named("bob".to_owned());
    let cases: Vec<Case> = vec![
        ("sudo id", Command, Root, None, &["id"]),
        ("sudo -u bob id -u root", Command, bob(), None, &["id", "-u", "root"]),
        ("sudo -ubob id", Command, bob(), None, &["id"]),
        ("sudo -u alice -u bob id", Command, bob(), None, &["id"]),
        ("sudo --user=bob id", Command, bob(), None, &["id"]),
        ("sudo --us bob id", Command, bob(), None, &["id"]),
        ("sudo -u #1000 id", Command, Uid(1000), None, &["id"]),
        ("sudo -g disk id", Command, Invoker, Some("disk"), &["id"]),
        ("sudo --gro=disk id", Command, Invoker, Some("disk"), &["id"]),
        ("sudo -u bob -g shadow id", Command, bob(), Some("shadow"), &["id"]),
        ("sudo -bEu bob -- id -l", Command, bob(), None, &["id", "-l"]),
        ("sudo A=1 -u bob B=2 id C=3", Command, bob(), None, &["id", "C=3"]),
        ("sudo -p -l id -u", Command, Root, None, &["id", "-u"]),
        ("sudo -p Password: -T 5 -C 9 -k id", Command, Root, None, &["id"]),
        ("sudo -s", Shell, Root, None, &[]),
        ("sudo -sHu bob id", Shell, bob(), None, &["id"]),
        ("sudo -i", LoginShell, Root, None, &[]),
        ("sudo -iu bob -- ls /x", LoginShell, bob(), None, &["ls", "/x"]),
        ("sudo -e /etc/hosts", Edit, Root, None, &["/etc/hosts"]),
        ("sudoedit -u bob a b", Edit, bob(), None, &["a", "b"]),
        ("sudo -l id", Query, Root, None, &["id"]),
        ("sudo -- A=1", Command, Root, None, &["A=1"]),
        ("sudo /x=1", Command, Root, None, &["/x=1"]),
    ];
    for (line, mode, target, group, command) in cases {
        check(FrontEnd::Sudo, line, &Expect { mode, target, group, command });
    }
    let asked = asked(FrontEnd::Sudo, "sudo -D /srv -R /jail --preserve-env=A,B -b X=1 id");
    assert_eq!(asked.view.chdir, Some(Arg::from("/srv")));
    assert_eq!(asked.view.chroot, Some(Arg::from("/jail")));
    assert!(asked.view.preserve_env && asked.view.background && asked.view.not_understood.is_none());
    assert_eq!(text(&asked.view.assignments), ["X=1"]);
}

/// Catalogue: D5 (control: targets_modes_and_commands_are_read_as_sudo_reads_them)
#[test]
fn what_the_programs_disagree_about_is_refused() {
    for line in [
        // unknown, ambiguous or abbreviated into two
        "sudo -Z id",
        "sudo --nonsense id",
        "sudo --pr x id",
        "sudo --lo id",
        "sudo --c 3 id",
        "sudo --list=x",
        "sudo --= id",
        // a value is missing, or is the end of options
        "sudo -u",
        "sudo --user",
        "sudo -p -- A=1 id",
        "sudo -u -- id",
        // help or host
        "sudo -h host id",
        "sudo -hhost id",
        "sudo --host=x id",
        "sudo --help",
        "sudo -V",
        // sudo takes it for a variable, sudo-rs for a command
        "sudo ./a=b id",
        "sudo =x id",
        "sudo a-b=c id",
        // sudo takes it for the command, sudo-rs for nothing
        "sudo -u alice - -g disk id",
        "sudo - -s",
        "sudo A=1 - id",
        "sudoedit - f",
        // not a plain number, nobody
        "sudo -u #-1 id",
        "sudo -u # id",
        "sudo -u #01 id",
        "sudo -u #4294967296 id",
        "sudo -u  id",
        "sudo -g  id",
        // modes that exclude each other
        "sudo -i -s",
        "sudo -e -s f",
        "sudo -e",
        "sudo -li",
        "sudoedit -s f",
        "sudoedit",
        // edit mode or not, by another rule in each version
        "xedit f",
        "sudoeditor f",
        "/tmp/fooedit f",
    ] {
        assert_eq!(sudo(line), Err(DenyReason::NotUnderstood), "{line}");
    }
    // Control: behind the command and behind `--` a lone `-` is a word like others.
    for line in ["sudo cat -", "sudo -- -"] {
        assert!(matches!(sudo(line), Ok(Reading::Asks(_))), "{line}");
    }
    assert_eq!(read(FrontEnd::Sudo, &[]), Err(DenyReason::NotUnderstood));
    let raw = vec![b"sudo".to_vec(), b"-u".to_vec(), b"\xff".to_vec(), b"id".to_vec()];
    assert_eq!(read(FrontEnd::Sudo, &raw), Err(DenyReason::NotUnderstood));
}

#[test]
fn options_that_the_view_cannot_show_are_named() {
    assert_eq!(asked(FrontEnd::Sudo, "sudo -r sysadm_r id").view.not_understood.as_deref(), Some("--role"));
    assert_eq!(asked(FrontEnd::Sudo, "sudo -P id").view.not_understood.as_deref(), Some("--preserve-groups"));
}

#[test]
fn who_can_be_asked_questions_follows_the_options() {
    for (line, questions) in [
        ("sudo id", Questions::Terminal),
        ("sudo -S id", Questions::Elsewhere),
        ("sudo -A id", Questions::Elsewhere),
        ("sudo -n id", Questions::Never),
        ("sudo -nS id", Questions::Never),
        ("sudo id -n", Questions::Terminal),
    ] {
        assert_eq!(asked(FrontEnd::Sudo, line).questions, questions, "{line}");
    }
}

#[test]
fn runs_that_can_do_anything_are_marked() {
    for line in [
        "sudo -s",
        "sudo -i",
        "sudo bash",
        "sudo /bin/sh -x",
        "sudo su",
        "sudo env A=1 bash",
        "sudo python3.11",
        "sudo bash --norc",
    ] {
        assert!(asked(FrontEnd::Sudo, line).view.open_ended, "{line}");
    }
    for line in [
        "sudo id",
        "sudo sh -c id",
        "sudo bash -ec id",
        "sudo sh script",
        "sudo -i id",
        "sudo -s id",
        "sudo -e f",
        "sudo bashful",
    ] {
        assert!(!asked(FrontEnd::Sudo, line).view.open_ended, "{line}");
    }
}

#[test]
fn su_is_read_for_display() {
    use Mode::{LoginShell, SwitchUser};
    use TargetWord::{Named, Root};
    let bob = || Named("bob".to_owned());
    let cases: Vec<Case> = vec![
        ("su", SwitchUser, Root, None, &[]),
        ("su -", LoginShell, Root, None, &[]),
        ("su - bob", LoginShell, bob(), None, &[]),
        ("su -l bob", LoginShell, bob(), None, &[]),
        ("su --login bob", LoginShell, bob(), None, &[]),
        ("su -c id", SwitchUser, Root, None, &["id"]),
        ("su bob -c id", SwitchUser, bob(), None, &["id"]),
        ("su -lc id", LoginShell, Root, None, &["id"]),
        ("su bob script arg", SwitchUser, bob(), None, &["script", "arg"]),
        ("su -g disk bob", SwitchUser, bob(), Some("disk"), &[]),
        ("su -- bob", SwitchUser, bob(), None, &[]),
    ];
    for (line, mode, target, group, command) in cases {
        check(FrontEnd::Su, line, &Expect { mode, target, group, command });
    }
    assert!(asked(FrontEnd::Su, "su").view.open_ended && asked(FrontEnd::Su, "su - bob").view.open_ended);
    assert!(!asked(FrontEnd::Su, "su -c id").view.open_ended);
    assert_eq!(asked(FrontEnd::Su, "su -s /bin/zsh").shell, ShellSource::Word(b"/bin/zsh".to_vec()));
    // The words after -c's value would be shown as the command: they are not.
    let unclear = asked(FrontEnd::Su, "su -c id bob");
    assert!(unclear.view.command_at.is_none() && unclear.view.not_understood.is_some());
    assert!(asked(FrontEnd::Su, "su bob -c id").view.not_understood.is_some());
    for line in ["su -Z", "su --nonsense", "su -c"] {
        assert_eq!(read(FrontEnd::Su, &words(line)), Err(DenyReason::NotUnderstood), "{line}");
    }
}

/// Catalogue: D6 (control: inline)
#[test]
fn more_than_people_can_read_is_refused() {
    let long = |count: usize, length: usize| {
        let mut argv = vec![b"sudo".to_vec()];
        argv.extend(std::iter::repeat_n(vec![b'x'; length], count));
        read(FrontEnd::Sudo, &argv)
    };
    assert_eq!(long(limits::ARGS, 1), Err(DenyReason::TooLong));
    assert_eq!(long(1, limits::REQUEST_BYTES / 8), Err(DenyReason::TooLong));
    assert!(long(limits::ARGS - 1, 1).is_ok());
}
