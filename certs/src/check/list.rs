//! Where the fields of a revocation list are (RFC 5280 §5.1). `x509-parser` reads what is in them,
//! except that it would also interpret every extension that anybody ever defined; here only their
//! envelopes are read, as for certificates. Nothing may be left over, at any level.

use x509_parser::asn1_rs::{Any, BitString, FromDer as _};
use x509_parser::extensions::{X509Extension, X509ExtensionParser};
use x509_parser::nom::Parser as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::AlgorithmIdentifier;

use crate::der::tag;

/// A version 2 list with a next update.
pub struct List<'a> {
    /// What is signed: the TBSCertList, whole.
    pub signed: &'a [u8],
    /// The inner algorithm.
    pub algorithm: AlgorithmIdentifier<'a>,
    /// The issuer's name, DER.
    pub issuer: &'a [u8],
    /// When it was made, in seconds since 1970.
    pub this_update: i64,
    /// When it ends, in seconds since 1970.
    pub next_update: i64,
    /// The certificates on it.
    pub entries: Vec<Entry<'a>>,
    /// Its own extensions.
    pub extensions: Vec<X509Extension<'a>>,
    /// The signature over `signed`.
    pub signature: BitString<'a>,
}

/// One revoked certificate.
pub struct Entry<'a> {
    /// The serial number's content bytes.
    pub serial: &'a [u8],
    /// Its extensions.
    pub extensions: Vec<X509Extension<'a>>,
}

impl<'a> List<'a> {
    /// Finds the fields; none when anything is missing, out of place or left over.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let whole = alone(bytes, tag::SEQUENCE)?;
        let (fields, rest) = inside(whole, tag::SEQUENCE)?;
        let signed = before(whole, rest)?;
        let (rest, _compared_by_the_envelope) = AlgorithmIdentifier::from_der(rest).ok()?;
        let ([], signature) = BitString::from_der(rest).ok()? else { return None };

        let (&[1], fields) = inside(fields, tag::INTEGER)? else { return None };
        let (fields, algorithm) = AlgorithmIdentifier::from_der(fields).ok()?;
        let (_, after_issuer) = inside(fields, tag::SEQUENCE)?;
        let issuer = before(fields, after_issuer)?;
        let (fields, this_update) = time(after_issuer)?;
        let (mut fields, next_update) = time(fields)?;
        let mut entries = Vec::new();
        if let Some((mut list, rest)) = inside(fields, tag::SEQUENCE) {
            fields = rest;
            while !list.is_empty() {
                let (entry, rest) = inside(list, tag::SEQUENCE)?;
                entries.push(Entry::read(entry)?);
                list = rest;
            }
        }
        let extensions = extensions(alone(fields, tag::EXPLICIT_0)?)?;
        Some(Self { signed, algorithm, issuer, this_update, next_update, entries, extensions, signature })
    }
}

impl<'a> Entry<'a> {
    fn read(fields: &'a [u8]) -> Option<Self> {
        let (serial, fields) = inside(fields, tag::INTEGER)?;
        let (rest, _when) = time(fields)?;
        let extensions = if rest.is_empty() { Vec::new() } else { extensions(rest)? };
        Some(Self { serial, extensions })
    }
}

/// The content of the element that comes first, which has this tag, and what follows it.
fn inside(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if input.first() != Some(&tag) {
        return None;
    }
    let (rest, element) = Any::from_der(input).ok()?;
    Some((element.data, rest))
}

/// The content of the only element.
fn alone(input: &[u8], tag: u8) -> Option<&[u8]> {
    match inside(input, tag)? {
        (content, []) => Some(content),
        _ => None,
    }
}

/// The part of `input` before its end `rest`.
fn before<'a>(input: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    input.get(..input.len().checked_sub(rest.len())?)
}

fn time(input: &[u8]) -> Option<(&[u8], i64)> {
    let (rest, time) = ASN1Time::from_der(input).ok()?;
    Some((rest, time.timestamp()))
}

/// A SEQUENCE of extensions, their contents as they are.
fn extensions(input: &[u8]) -> Option<Vec<X509Extension<'_>>> {
    let mut rest = alone(input, tag::SEQUENCE)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, extension) = X509ExtensionParser::new().with_deep_parse_extensions(false).parse(rest).ok()?;
        found.push(extension);
        rest = after;
    }
    Some(found)
}
