//! The private half of a break-glass key: a file (PKCS #8), or an ssh-agent that holds it. What is
//! signed is shown to a person before; nothing here decides. A key never leaves this file.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use twinlock_protocol::Fixed;
use twinlock_protocol::signature::{PublicKey, Signature, SigningKey};
use zeroize::Zeroizing;

use crate::cli::{Failure, files};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// What stands above a key that we wrote, before the person's id.
const PERSON: &str = "person: ";
/// More than any key file of ours has.
const KEY_BYTES: u64 = 16 * 1024;
/// How the ssh protocols call ECDSA on P-256 with SHA-256 (RFC 5656 §6.2), and its curve.
const SSH_KIND: &[u8] = b"ecdsa-sha2-nistp256";
const SSH_CURVE: &[u8] = b"nistp256";
/// Messages of the agent protocol (draft-ietf-sshm-ssh-agent).
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// The longest message that OpenSSH's agent knows.
const AGENT_BYTES: u32 = 256 * 1024;
/// The agent may ask its own user first.
const AGENT_PATIENCE: Duration = Duration::from_secs(120);

/// A key that signs.
pub enum Signer {
    /// Its private half, read from a file.
    File(Box<SigningKey>),
    /// The agent's socket, and the key.
    Agent(PathBuf, PublicKey),
}

impl Signer {
    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::File(key) => key.public(),
            Self::Agent(_, key) => *key,
        }
    }

    /// Signs.
    ///
    /// # Errors
    /// A [`Failure`] when random source or agent fail, or the agent's user says no.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, Failure> {
        match self {
            Self::File(key) => Ok(key.sign(message)?),
            Self::Agent(socket, key) => agent_signs(socket, key, message),
        }
    }
}

/// Makes a key: what goes into a file of 0600, and its public half.
///
/// # Errors
/// The random source failed.
pub fn make(person: &str) -> Result<(Zeroizing<String>, PublicKey), Failure> {
    let (key, pkcs8) = SigningKey::generate()?;
    let pkcs8 = Zeroizing::new(pkcs8);
    let letters = Zeroizing::new(BASE64.encode(&pkcs8));
    let mut text = Zeroizing::new(format!("{PERSON}{person}\n{BEGIN}\n"));
    for line in letters.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line)?);
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    Ok((text, key.public()))
}

/// Reads a key: PKCS #8, as PEM (RFC 7468) or DER; and whose it says it is.
///
/// # Errors
/// A [`Failure`] that names the file.
pub fn read(path: &Path) -> Result<(Signer, Option<String>), Failure> {
    let bytes = Zeroizing::new(files::read(path, KEY_BYTES)?);
    let wrong = || {
        Failure::new(
            format!("{} is no P-256 private key in PKCS #8 without a passphrase", path.display()),
            "twinlock break-glass keygen makes one; a key with a passphrase belongs into ssh-agent (--agent)",
        )
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok((Signer::File(Box::new(SigningKey::from_pkcs8(&bytes).map_err(|_| wrong())?)), None));
    };
    let person = text.lines().find_map(|line| line.strip_prefix(PERSON)).map(|id| id.trim().to_owned());
    let (_, rest) = text.split_once(BEGIN).ok_or_else(wrong)?;
    let (letters, _) = rest.split_once(END).ok_or_else(wrong)?;
    let letters = Zeroizing::new(letters.split_whitespace().collect::<String>());
    let der = Zeroizing::new(BASE64.decode(letters.as_bytes()).map_err(|_| wrong())?);
    Ok((Signer::File(Box::new(SigningKey::from_pkcs8(&der).map_err(|_| wrong())?)), person))
}

/// Reads a public key: as keygen prints it, or an OpenSSH line (`ecdsa-sha2-nistp256 AAAA…`).
#[must_use]
pub fn public(text: &str) -> Option<PublicKey> {
    let text = text.trim();
    if let Some(key) = Fixed::from_text(text) {
        return Some(key);
    }
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    let blob = BASE64.decode(words.next()?.as_bytes()).ok()?;
    if kind.as_bytes() == SSH_KIND { key_of_blob(&blob) } else { None }
}

/// The agent's only P-256 key, or the one that is `wanted`.
///
/// # Errors
/// A [`Failure`]: no agent, or not one such key.
pub fn from_agent(wanted: Option<PublicKey>) -> Result<Signer, Failure> {
    let socket = std::env::var_os("SSH_AUTH_SOCK")
        .ok_or_else(|| Failure::new("there is no ssh-agent", "SSH_AUTH_SOCK is not set; or take --key FILE"))?;
    let socket = PathBuf::from(socket);
    let answer = ask_agent(&socket, &[REQUEST_IDENTITIES])?;
    let keys: Vec<PublicKey> =
        identities(&answer).ok_or_else(|| Failure::plain("the ssh-agent answered something else"))?;
    let fits: Vec<PublicKey> = keys.iter().copied().filter(|key| wanted.is_none_or(|wanted| wanted == *key)).collect();
    match fits[..] {
        [key] => Ok(Signer::Agent(socket, key)),
        [] => Err(Failure::new(
            "the ssh-agent has no such key",
            "break-glass keys are ecdsa-sha2-nistp256: ssh-keygen -t ecdsa -b 256, then ssh-add",
        )),
        _ => Err(Failure::new("the ssh-agent has several P-256 keys", "say which: --public KEY")),
    }
}

/// Every P-256 key in an answer to [`REQUEST_IDENTITIES`]; others are passed over.
fn identities(answer: &[u8]) -> Option<Vec<PublicKey>> {
    let (&[IDENTITIES_ANSWER], rest) = answer.split_first_chunk::<1>()? else { return None };
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut keys = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        keys.extend(key_of_blob(string(&mut rest)?));
        string(&mut rest)?;
    }
    Some(keys)
}

/// RFC 5656 §3.1.
fn key_of_blob(blob: &[u8]) -> Option<PublicKey> {
    let mut rest = blob;
    let (kind, curve, point) = (string(&mut rest)?, string(&mut rest)?, string(&mut rest)?);
    let fits = kind == SSH_KIND && curve == SSH_CURVE && rest.is_empty() && point.starts_with(&[4]);
    if fits { point.try_into().ok().map(Fixed) } else { None }
}

fn blob_of_key(key: &PublicKey) -> Vec<u8> {
    let mut blob = Vec::new();
    [SSH_KIND, SSH_CURVE, &key.0].into_iter().for_each(|part| put(&mut blob, part));
    blob
}

fn agent_signs(socket: &Path, key: &PublicKey, message: &[u8]) -> Result<Signature, Failure> {
    let mut request = vec![SIGN_REQUEST];
    put(&mut request, &blob_of_key(key));
    put(&mut request, message);
    request.extend_from_slice(&0_u32.to_be_bytes());
    let answer = ask_agent(socket, &request)?;
    signature(&answer).ok_or_else(|| Failure::new("the ssh-agent did not sign", "it may be locked: ssh-add -X"))
}

/// RFC 5656 §3.1.2: a string with the kind and a string with r and s as RFC 4251 mpints.
fn signature(answer: &[u8]) -> Option<Signature> {
    let (&[SIGN_RESPONSE], mut rest) = answer.split_first_chunk::<1>()? else { return None };
    let mut signed = string(&mut rest)?;
    if string(&mut signed)? != SSH_KIND {
        return None;
    }
    let mut numbers = string(&mut signed)?;
    let mut bytes = [0; 64];
    let (r, s) = bytes.split_at_mut(32);
    for half in [r, s] {
        let number = string(&mut numbers)?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let at = half.len().checked_sub(number.len())?;
        half.get_mut(at..)?.copy_from_slice(number);
    }
    if numbers.is_empty() { Some(Fixed(bytes)) } else { None }
}

/// Takes a string of RFC 4251 §5 off the front.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (value, after) = after.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    *rest = after;
    Some(value)
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

fn ask_agent(socket: &Path, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let failure = |error: std::io::Error| Failure::plain(format!("the ssh-agent at {}: {error}", socket.display()));
    let mut stream = UnixStream::connect(socket).map_err(failure)?;
    stream.set_read_timeout(Some(AGENT_PATIENCE)).map_err(failure)?;
    let mut frame = Vec::new();
    put(&mut frame, request);
    stream.write_all(&frame).map_err(failure)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failure)?;
    let length = u32::from_be_bytes(length);
    if length > AGENT_BYTES {
        return Err(Failure::plain("the ssh-agent answers too much"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).map_err(failure)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bob.key");
        let (text, public) = make("bob").unwrap();
        std::fs::write(&path, text.as_bytes()).unwrap();
        let (signer, person) = read(&path).unwrap();
        assert_eq!((signer.public(), person.as_deref()), (public, Some("bob")));
        let signature = signer.sign(b"message").unwrap();
        assert!(twinlock_protocol::signature::verify(&public, b"message", &signature));
        for wrong in [text.replace("PRIVATE", "PUBLIC"), text.replace("MIG", "MIH"), text.replace(END, "")] {
            std::fs::write(&path, wrong).unwrap();
            assert!(read(&path).is_err());
        }
        let (_, der) = SigningKey::generate().unwrap();
        std::fs::write(&path, &der).unwrap();
        assert!(read(&path).unwrap().1.is_none());
    }

    #[test]
    fn a_number_of_an_agent_takes_its_place_whatever_its_length() {
        let answer = |r: &[u8], s: &[u8]| {
            let (mut numbers, mut signed, mut answer) = (Vec::new(), Vec::new(), vec![SIGN_RESPONSE]);
            put(&mut numbers, r);
            put(&mut numbers, s);
            put(&mut signed, SSH_KIND);
            put(&mut signed, &numbers);
            put(&mut answer, &signed);
            answer
        };
        let made = signature(&answer(&[0, 0xff], &[7; 31])).unwrap();
        assert_eq!((made.0[31], made.0[32], made.0[33], made.0[0]), (0xff, 0, 7, 0));
        assert!(signature(&answer(&[7; 33], &[7])).is_none());
        assert!(signature(&[]).is_none() && signature(&[5]).is_none());
        assert!(signature(&answer(&[7], &[7])[..20]).is_none());
    }

    /// The agent of OpenSSH, with a key of ours.
    #[test]
    fn an_ssh_agent_signs_what_a_verifier_takes() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, path) = (dir.path().join("agent"), dir.path().join("key"));
        let (text, public) = make("bob").unwrap();
        crate::enrol::seal::replace(&path, text.as_bytes(), 0o600, None).unwrap();
        let mut agent =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        while !socket.exists() {
            assert!(agent.try_wait().unwrap().is_none(), "the agent left");
            std::thread::yield_now();
        }
        let added = Command::new("ssh-add").arg(&path).env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null()).status();
        let listed = Command::new("ssh-add").arg("-L").env("SSH_AUTH_SOCK", &socket).output().unwrap();
        let line = String::from_utf8(listed.stdout).unwrap();
        let identity = ask_agent(&socket, &[REQUEST_IDENTITIES]).map(|answer| identities(&answer));
        let signature = agent_signs(&socket, &public, b"message");
        agent.kill().unwrap();
        agent.wait().unwrap();
        assert!(added.unwrap().success());
        assert_eq!(super::public(&line), Some(public));
        assert_eq!(identity.unwrap(), Some(vec![public]));
        assert!(twinlock_protocol::signature::verify(&public, b"message", &signature.unwrap()));
    }
}
