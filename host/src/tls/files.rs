//! Certificates and keys in PEM files, and what is wrong with one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::holder::{Holder, holders};
use crate::wire::shown;

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with a file of certificates or of a key, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; {hint}", self.place_and_reason())]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong. Never holds a part of a key.
    pub what: String,
    /// How to mend it.
    pub hint: String,
}

impl BadFile {
    pub(super) fn new(path: &Path, what: impl Into<String>, hint: impl Into<String>) -> Self {
        BadFile { path: path.to_owned(), line: None, what: what.into(), hint: hint.into() }
    }

    /// Place and reason, without how to mend it.
    pub fn place_and_reason(&self) -> String {
        let line = self.line.map_or_else(String::new, |line| format!(":{line}"));
        format!("{}{line}: {}", self.path.display(), self.what)
    }

    fn at(self, line: Option<usize>) -> Self {
        BadFile { line, ..self }
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// From when it is valid, seconds since 1970.
    pub from: i64,
    /// Until when it is valid, seconds since 1970.
    pub until: i64,
    /// Names and addresses of hosts that it is for.
    pub hosts: Vec<String>,
    /// For whom it is, if it is a client certificate.
    pub holders: Vec<Holder>,
    /// Whether it is an authority's.
    pub authority: bool,
    /// Its subject, and that of the authority which has signed it, as texts.
    pub names: (String, String),
}

impl Described {
    /// Reads a certificate.
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Described, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let host = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        };
        let hosts = names.map(|names| names.value.general_names.iter().filter_map(host).collect());
        Ok(Described {
            from: parsed.validity().not_before.timestamp(),
            until: parsed.validity().not_after.timestamp(),
            hosts: hosts.unwrap_or_default(),
            holders: holders(&parsed),
            authority: parsed.is_ca(),
            names: (parsed.subject().to_string(), parsed.issuer().to_string()),
        })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string())
}

/// What the first certificate of a file says of itself.
///
/// # Errors
/// [`BadFile`].
pub fn describe_file(path: &Path) -> Result<Described, BadFile> {
    certificates(path).map(|(_, described)| described)
}

/// Whether the first certificate of a file is for a host of that name or address.
///
/// # Errors
/// [`BadFile`].
pub fn is_for_host(path: &Path, host: &str) -> Result<bool, BadFile> {
    let (chain, _) = certificates(path)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (Ok(name), Ok(parsed)) = (ServerName::try_from(host), ParsedCertificate::try_from(&chain[0])) else {
        return Ok(false);
    };
    Ok(verify_server_name(&parsed, &name).is_ok())
}

/// The certificates of a file, of which there is at least one, and what the first says of itself.
pub(super) fn certificates(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Described), BadFile> {
    const HINT: &str = "it must have `-----BEGIN CERTIFICATE-----` and be in PEM, the host's certificate first";
    let text = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = parsed.map_err(|error| malformed(path, &text, &error, HINT))?;
    let mut described = None;
    for (number, certificate) in all.iter().enumerate() {
        let read = Described::of(certificate).map_err(|why| {
            BadFile::new(path, format!("this is no certificate: {why}"), HINT).at(block(&text, "CERTIFICATE", number))
        })?;
        described.get_or_insert(read);
    }
    match described {
        Some(described) => Ok((all, described)),
        None => Err(BadFile::new(path, "there is no certificate in it", HINT)),
    }
}

/// The private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, BadFile> {
    const HINT: &str = "it must have `-----BEGIN PRIVATE KEY-----` and be in PEM";
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match (error, block(&text, "ENCRYPTED PRIVATE KEY", 0)) {
        (pem::Error::NoItemsFound, line @ Some(_)) => {
            let hint = "`openssl pkey -in FILE -out FILE` writes it without; give the file mode 600";
            BadFile::new(path, "the key is locked by a passphrase", hint).at(line)
        }
        (pem::Error::NoItemsFound, None) => BadFile::new(path, "there is no private key in it", HINT),
        (error, _) => malformed(path, &text, &error, HINT),
    })
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, BadFile> {
    let (certificates, _) = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| {
            BadFile::new(
                path,
                format!("it has a certificate that cannot be an authority's: {error}"),
                "give the file of the CA, such as `tls/ca.pem`, and not a host's",
            )
        })?;
    }
    Ok(roots)
}

/// The authorities that this system trusts.
///
/// # Errors
/// There are none.
pub(super) fn system_authorities() -> Result<RootCertStore, BadFile> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let what = match found.errors.first() {
            Some(error) => format!("this system's authorities cannot be read: {error}"),
            None => "this system trusts no authority".to_owned(),
        };
        let hint = "install them (Debian's package is `ca-certificates`), or name the CA's file";
        return Err(BadFile::new(Path::new("/etc/ssl/certs"), what, hint));
    }
    Ok(roots)
}

/// What files look like from outside: length and time of the last change; absent where one is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(Vec<Option<(u64, Option<SystemTime>)>>);

pub(super) fn look(paths: &[&Path]) -> Look {
    let outside = |path: &&Path| fs::metadata(path).ok().map(|file| (file.len(), file.modified().ok()));
    Look(paths.iter().map(outside).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    let read = match fs::metadata(path) {
        Ok(file) if file.len() > MAX_FILE => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        Ok(_) => fs::read(path),
        Err(error) => Err(error),
    };
    read.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "`pomelo init --tls` and `pomelo cert` make such files",
            io::ErrorKind::PermissionDenied => "whoever runs this program must be able to read it",
            _ => "it must be a PEM file of at most 1 MiB",
        };
        BadFile::new(path, format!("it cannot be read: {error}"), hint)
    })
}

fn malformed(path: &Path, text: &[u8], error: &pem::Error, hint: &str) -> BadFile {
    let lines = || text.split(|byte| *byte == b'\n');
    let find = |wanted: &[u8]| lines().position(|line| line.trim_ascii() == wanted.trim_ascii()).map(|line| line + 1);
    let last_begin = || lines().enumerate().filter(|(_, line)| line.starts_with(b"-----BEGIN")).last();
    let (what, line) = match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            // The library keeps the label alone.
            let label = String::from_utf8_lossy(end_marker);
            (format!("`-----END {}-----` is missing", shown(label.trim())), last_begin().map(|(line, _)| line + 1))
        }
        pem::Error::IllegalSectionStart { line } => ("this line begins no section of PEM".to_owned(), find(line)),
        pem::Error::Base64Decode(_) => ("what is between BEGIN and END is not base64".to_owned(), undecodable(text)),
        error => (error.to_string(), None),
    };
    BadFile::new(path, what, hint).at(line)
}

/// The line, from 1, at which the first section begins that is not base64.
fn undecodable(text: &[u8]) -> Option<usize> {
    let mut begin = None;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let inside = begin.is_some();
        if line.starts_with(b"-----BEGIN") {
            begin = Some(number + 1);
        } else if line.starts_with(b"-----END") {
            begin = None;
        } else if inside && !line.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)) {
            return Some(number + 1);
        }
    }
    None
}

/// The line, from 1, at which the section of that label and number begins.
fn block(text: &[u8], label: &str, number: usize) -> Option<usize> {
    let begin = format!("-----BEGIN {label}-----");
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| line.trim_ascii() == begin.as_bytes()).nth(number).map(|(line, _)| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_is_named_with_its_line_and_how_to_mend_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        let check = |text: &str, as_key: bool, line: Option<usize>, part: &str| {
            fs::write(&path, text).unwrap();
            let bad = if as_key { key(&path).unwrap_err() } else { certificates(&path).unwrap_err() };
            assert_eq!(bad.line, line, "{bad}");
            let said = bad.to_string();
            assert!(said.contains(part) && said.contains("x.pem") && !bad.hint.is_empty(), "{said}");
        };
        check("", false, None, "no certificate in it");
        check("", true, None, "no private key in it");
        check("hello\n-----BEGIN CERTIFICATE-----\nAAAA\n", false, Some(2), "END CERTIFICATE");
        check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", false, Some(1), "no certificate");
        check("\n-----BEGIN CERTIFICATE-----\nA?\n-----END CERTIFICATE-----\n", false, Some(3), "not base64");
        check(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            true,
            Some(1),
            "passphrase",
        );
        let gone = certificates(&dir.path().join("gone.pem")).unwrap_err().to_string();
        assert!(gone.contains("gone.pem: it cannot be read") && gone.contains("pomelo cert"), "{gone}");
        fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
        assert!(key(&path).unwrap_err().hint.contains("1 MiB"));
    }
}
