//! What `twinlock init` tells: words, codes and tables for people, or one JSON object per line for
//! programs. Invites are secrets and are printed only here, once.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use twinlock_protocol::Digest;
use twinlock_protocol::escape::visible;

use super::InitArgs;
use crate::cli::output::{json as print_json, line, table};
use crate::cli::qr;
use crate::cli::token::JoinToken;
use crate::enrol::Progress;
use crate::enrol::ceremony::{INVITE_VALID_S, Invite, Presence};

/// Where the ceremony's news go.
pub struct Report {
    json: bool,
    draw: bool,
}

impl Report {
    /// Lines of JSON, or words and, on a terminal, QR codes.
    pub fn new(json: bool) -> Self {
        Self { json, draw: !json && std::io::stdout().is_terminal() }
    }

    pub fn advice(&self, advice: &[String]) {
        if self.json {
            print_json(&json!({ "event": "advice", "advice": advice }));
            return;
        }
        for sentence in advice {
            line(&format!("note: {}", visible(sentence.as_bytes())));
        }
    }

    pub fn listening(&self, origin: &str, address: SocketAddr) {
        if self.json {
            print_json(&json!({ "event": "listening", "origin": origin, "address": address.to_string() }));
        } else {
            line(&format!("the page is at {origin}, listening on {address}"));
        }
    }

    pub fn invite(&self, origin: &str, invite: &Invite) {
        let url = format!("{origin}/E/{}", invite.secret.as_str());
        if self.json {
            print_json(&json!({
                "event": "invite", "person": invite.person, "url": url, "valid_s": INVITE_VALID_S,
            }));
            return;
        }
        line("");
        line(&format!(
            "{}: scan this with your own phone, or open the link; once, within {} minutes, for nobody else",
            visible(invite.person.name.as_bytes()),
            INVITE_VALID_S / 60
        ));
        // Upper case makes a smaller code; scheme and host do not mind, the path is upper case.
        let code = qr::lines(&url.to_ascii_uppercase());
        if let Some(code) = code.filter(|_| self.draw) {
            code.iter().for_each(|row| line(row));
        }
        line(&url);
    }

    pub fn progress(&self, event: &Progress, people: &[Presence]) {
        if self.json {
            let event = match event {
                Progress::Opened(person) => json!({ "event": "opened", "person": person }),
                Progress::Enrolled(person, device) => {
                    json!({ "event": "enrolled", "person": person, "device": device })
                }
                Progress::Signed(person) => json!({ "event": "signed", "person": person }),
                // `sealed` follows with its digest.
                Progress::Sealed => return,
                Progress::SealFailed(why) => json!({ "event": "seal_failed", "reason": why }),
            };
            print_json(&event);
            return;
        }
        let told = match event {
            Progress::Opened(person) => format!("{} opened the link", person.name),
            Progress::Enrolled(person, device) => {
                format!("{} enrolled \"{}\", assurance {:?}", person.name, device.label, device.assurance)
            }
            Progress::Signed(person) => format!("{} signed", person.name),
            Progress::Sealed | Progress::SealFailed(_) => return,
        };
        let missing = |done: fn(&Presence) -> bool| {
            let names: Vec<&str> = people.iter().filter(|one| !done(one)).map(|one| one.name.as_str()).collect();
            names.join(", ")
        };
        let rest = match event {
            Progress::Enrolled(..) => missing(|one| one.enrolled),
            Progress::Signed(_) => missing(|one| one.signed),
            Progress::Opened(_) | Progress::Sealed | Progress::SealFailed(_) => String::new(),
        };
        let rest = if rest.is_empty() { String::new() } else { format!("; waiting for {rest}") };
        line(&visible(format!("{told}{rest}").as_bytes()));
    }

    pub fn question(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "{text}");
        let _ = out.flush();
    }

    pub fn composed(&self, digest: &Digest) {
        if self.json {
            print_json(&json!({ "event": "composed", "digest": digest }));
            return;
        }
        line("");
        line("everybody is enrolled. Read the roster on your device; its fingerprint there must be");
        line(&format!("  {}", grouped(digest)));
        line("then sign it");
    }

    pub fn sealed(&self, digest: &Digest, state_dir: &Path) {
        if self.json {
            print_json(&json!({ "event": "sealed", "digest": digest, "state_dir": state_dir.display().to_string() }));
            return;
        }
        line("");
        line(&format!("sealed: roster version 1 in {}", state_dir.display()));
        line(&format!("  {}", grouped(digest)));
    }

    pub fn token(&self, token: &JoinToken) {
        if self.json {
            print_json(&json!({ "event": "join_token", "host": token.host, "token": token.to_text() }));
            return;
        }
        line("");
        line(&format!("on {}:", token.host));
        line(&format!("  twinlock host join --roster roster.json {}", token.to_text()));
    }

    pub fn next(&self, arguments: &InitArgs, origin: &str) {
        if self.json {
            return;
        }
        let steps = [
            vec!["1".to_owned(), "write /etc/twinlock/gateway.toml:".to_owned()],
            vec!["2".to_owned(), "start the gateway: twinlock-gatewayd serve".to_owned()],
            vec![
                "3".to_owned(),
                "copy roster.json to each host, join it with its token, then start its agent and reaper".to_owned(),
            ],
        ];
        line("");
        line(table(&["", "NEXT"], &steps).trim_end());
        line("");
        line(&gateway_toml(arguments, origin));
    }
}

/// A configuration to start from.
fn gateway_toml(arguments: &InitArgs, origin: &str) -> String {
    let port = arguments.gateway.rsplit_once(':').map_or("8444", |(_, port)| port);
    let quoted = |text: String| toml::Value::String(text).to_string();
    format!(
        "origin = {}\nstate_dir = {}\n[approver]\nlisten = {}\ntls_cert = {}\ntls_key = {}\n[agents]\nlisten = {}",
        quoted(origin.to_owned()),
        quoted(arguments.state_dir.display().to_string()),
        quoted(arguments.listen.to_string()),
        quoted(arguments.tls_cert.display().to_string()),
        quoted(arguments.tls_key.display().to_string()),
        quoted(format!("[::]:{port}")),
    )
}

/// Hexadecimal in groups of four, as the page shows it.
fn grouped(digest: &Digest) -> String {
    let hex = digest.to_hex();
    let groups: Vec<&str> = hex.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(" ")
}
