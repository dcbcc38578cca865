//! A request in plain words, for whoever signs it without a page: what it would run, where, as whom,
//! what is doubtful about it, and every word of the command line. Everything is escaped.

use twinlock_protocol::escape::{self, argument, visible};
use twinlock_protocol::request::{Arg, ElevationRequest, Mode, StdinKind};

use crate::approval::summary;
use crate::cli::time;

/// Programs that run whatever they are told, or hand out a shell.
const OPEN: [&str; 12] = ["sh", "bash", "dash", "zsh", "ksh", "fish", "env", "python3", "perl", "vi", "vim", "less"];

fn shown(text: &str) -> String {
    visible(text.as_bytes())
}

/// The request, line by line.
#[must_use]
pub fn lines(request: &ElevationRequest) -> Vec<String> {
    let asked = &request.requester;
    let login = asked.login.as_ref().unwrap_or(&asked.real);
    let mut who = format!("{} (uid {})", shown(&login.name), login.uid);
    if *login != asked.real {
        who.push_str(&format!(", acting as {} (uid {})", shown(&asked.real.name), asked.real.uid));
    }
    let group = request.target.group.as_deref().map(|group| format!(" with the group {}", shown(group)));
    let path = |arg: &Option<Arg>| arg.as_ref().map_or("not known".to_owned(), |arg| argument(&arg.0));
    let mut lines = vec![
        format!("  who      {who}"),
        format!("  what     {}", summary(request)),
        format!("  as       {}{}", shown(&request.target.user), group.unwrap_or_default()),
        format!("  host     {}, by {}", request.host, shown(&request.service)),
        format!("  in       {}", path(&request.cwd)),
        format!("  terminal {}", request.tty.as_deref().map_or("none".to_owned(), shown)),
        format!("  asked    {} by that host's clock", time::moment(request.created_at)),
        format!("  for      at most {}", time::span(request.ttl_s.into())),
    ];
    lines.extend(request.reason.as_ref().map(|reason| format!("  why      {}", shown(reason))));
    lines.push(format!("  exactly  {}", escape::command(request.argv.iter().map(|word| word.0.as_slice()))));
    lines.extend(remarks(request).into_iter().map(|remark| format!("  NOTE     {remark}")));
    lines
}

/// What a person should stop at.
#[must_use]
pub fn remarks(request: &ElevationRequest) -> Vec<String> {
    let (view, to) = (&request.view, &request.target);
    let mut remarks = Vec::new();
    let mut add = |holds: bool, words: String| remarks.extend(holds.then_some(words));
    let user = shown(&to.user);
    let bare = request.command().is_empty();
    let shell = matches!(view.mode, Mode::Shell | Mode::LoginShell | Mode::SwitchUser) && bare;
    add(to.uid == 0 && to.user != "root", format!("{user} is root by another name"));
    add(shell, format!("opens a shell as {user}: whatever is typed there runs, and you cannot see it"));
    add(view.mode == Mode::Edit, "opens an editor: what is changed is decided there".to_owned());
    let program = request.command().first().map(|word| String::from_utf8_lossy(&word.0).into_owned());
    let name = program.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    add(
        !shell && (view.open_ended || OPEN.contains(&name)),
        "this program can run anything; read every word of it".to_owned(),
    );
    add(request.stdin == StdinKind::Piped, "input is piped, you cannot see it".to_owned());
    add(request.stdin == StdinKind::File, "input comes from a file, you cannot see it".to_owned());
    add(request.stdin == StdinKind::Other, "input comes from another program, you cannot see it".to_owned());
    if let Some(why) = &view.not_understood {
        add(true, format!("not fully understood: {}; judge by the exact words", shown(why)));
    }
    add(to.group.is_some(), "some groups (disk, shadow, docker) are as powerful as root".to_owned());
    let list = |args: &[Arg]| args.iter().map(|arg| argument(&arg.0)).collect::<Vec<_>>().join(" ");
    add(!view.assignments.is_empty(), format!("sets variables: {}", list(&view.assignments)));
    add(view.preserve_env, "keeps the requester's environment".to_owned());
    add(view.background, "goes on in the background".to_owned());
    let hidden = |arg: &Arg| std::str::from_utf8(&arg.0).map_or(true, |text| !escape::shows_as_it_is(text));
    add(request.argv.iter().any(hidden), "hidden characters stand in it, shown as \\u{...} or \\x...".to_owned());
    remarks
}

#[cfg(test)]
mod tests {
    use twinlock_protocol::UnixTime;
    use twinlock_protocol::softphone::Fixture;

    use super::*;

    #[test]
    fn a_request_reads_whole_and_nothing_in_it_hides() {
        let (mut request, _) = Fixture::new(b"ca", UnixTime(1_800_000_000)).request();
        let text = lines(&request).join("\n");
        for part in ["alice (uid 1001)", "systemctl restart nginx", "as       root", "web01, by sudo", "15:00"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(remarks(&request), Vec::<String>::new());
        request.argv = vec!["sudo".into(), "sh".into(), "-c".into(), "id\u{1b}[2J".into()];
        request.stdin = StdinKind::Piped;
        request.view.not_understood = Some("-X".into());
        request.target.group = Some("disk".into());
        let text = lines(&request).join("\n");
        assert!(!text.contains('\u{1b}'), "{text}");
        for part in ["run anything", "piped", "not fully understood: -X", "disk", "hidden characters", "u{1b}"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
