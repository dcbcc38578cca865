//! `twinlock-assets DIR`: writes the command line's manual pages (`DIR/man`) and completions
//! (`DIR/completions`), from the very definition that parses its arguments. Used when packages are
//! built; it is not installed.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::Command;
use clap_complete::Shell;

/// The manual's name in the header of each page.
const MANUAL: &str = "Twinlock";

fn main() -> ExitCode {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return ExitCode::from(2);
    };
    match write(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn write(dir: &Path) -> Result<(), Error> {
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut command = twinlock_gatewayd::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "twinlock", &completions)?;
    }
    command.build();
    pages(&command, "twinlock", &man)
}

/// A page for a command and, as `twinlock-audit-verify.1`, for each below it.
fn pages(command: &Command, name: &str, dir: &Path) -> Result<(), Error> {
    let mut page = Vec::new();
    // No date: the same sources give the same bytes.
    let named = command.clone().name(leak(name)).display_name(name);
    clap_mangen::Man::new(named).title(name.to_uppercase()).section("1").manual(MANUAL).render(&mut page)?;
    if page.is_empty() {
        return Err(Error::new(ErrorKind::InvalidData, "an empty page"));
    }
    fs::write(dir.join(format!("{name}.1")), page)?;
    let below = command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set());
    below.into_iter().try_for_each(|below| pages(below, &format!("{name}-{}", below.get_name()), dir))
}

/// clap takes names that live as long as the program; there are a few dozen.
fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_command_has_a_page_and_the_same_bytes_twice() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(one.path()).unwrap();
        write(two.path()).unwrap();
        let pages = || fs::read_dir(one.path().join("man")).unwrap().flatten().map(|entry| entry.file_name());
        assert!(pages().count() > 20);
        for name in pages() {
            let page = fs::read(one.path().join("man").join(&name)).unwrap();
            assert_eq!(page, fs::read(two.path().join("man").join(&name)).unwrap());
        }
        let verify = fs::read_to_string(one.path().join("man/twinlock-audit-verify.1")).unwrap();
        assert!(verify.contains("twinlock\\-audit\\-verify") && verify.contains("pin"), "{verify}");
        assert!(fs::read_to_string(one.path().join("completions/_twinlock")).unwrap().contains("audit"));
    }
}
