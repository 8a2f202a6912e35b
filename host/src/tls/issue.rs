//! An authority of the cluster's own, and the certificates that it makes. It knows no file names: whoever makes certificates says where they go.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use super::files::{BadFile, Described, certificates};
use super::holder::Holder;
use super::{DAY, now};

/// Days for which the certificates of hosts, servers and users are valid.
pub const SERVER_DAYS: i64 = 365;
/// Days for which an authority's certificate is valid.
const AUTHORITY_DAYS: i64 = 3650;
/// Characters of a subject's common name.
const MAX_COMMON_NAME: usize = 64;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A file of the authority cannot be used.
    #[error(transparent)]
    File(#[from] BadFile),
    /// A name cannot stand in a certificate, or there is no randomness for a key.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// For how long a certificate is valid, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Its beginning.
    pub from: i64,
    /// Its end.
    pub until: i64,
}

impl Lifetime {
    /// For so many days from now on. It begins an hour ago, because clocks differ.
    pub fn days(days: i64) -> Self {
        Lifetime { from: now() - 3600, until: now() + days * DAY }
    }
}

/// A certificate with its private key, both PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: String,
}

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    until: i64,
    /// Its subject, as certificates name who has signed them.
    subject: String,
}

impl Authority {
    /// A new authority, and its own certificate.
    ///
    /// # Errors
    /// [`IssueError::Make`].
    pub fn make(name: &str) -> Result<(Authority, Issued), IssueError> {
        let key = KeyPair::generate()?;
        let lifetime = Lifetime::days(AUTHORITY_DAYS);
        let mut params = params(name, lifetime);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let issued = Issued { certificate: certificate.pem(), key: key.serialize_pem() };
        let subject = Described::of(certificate.der()).map_or_else(|_| String::new(), |described| described.names.0);
        Ok((Authority { issuer: Issuer::new(params, key), until: lifetime.until, subject }, issued))
    }

    /// The authority of these files.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Authority, IssueError> {
        let (chain, described) = certificates(certificate)?;
        if !described.authority {
            return Err(
                BadFile::new(certificate, "it is no authority's certificate", "`pomelo init --tls` makes one").into()
            );
        }
        // It checks that there is a key, and names the file and line if not.
        super::files::key(key)?;
        let text = std::fs::read_to_string(key)
            .map_err(|error| BadFile::new(key, format!("it cannot be read: {error}"), "it must be a PEM file"))?;
        let issuer = Issuer::from_ca_cert_der(&chain[0], KeyPair::from_pem(&text)?)?;
        Ok(Authority { issuer, until: described.until, subject: described.names.0 })
    }

    /// Whether it has signed a certificate, by its name.
    pub fn has_signed(&self, certificate: &Described) -> bool {
        certificate.names.1 == self.subject
    }

    /// A certificate of a host with these names and addresses.
    ///
    /// # Errors
    /// [`IssueError::Make`].
    pub fn host(&self, names: &[String], lifetime: Lifetime) -> Result<Issued, IssueError> {
        let alternatives = CertificateParams::new(names)?.subject_alt_names;
        let name = names.first().map_or("pomelo", String::as_str);
        self.issue(name, alternatives, ExtendedKeyUsagePurpose::ServerAuth, lifetime)
    }

    /// A client certificate of a server or a user.
    ///
    /// # Errors
    /// [`IssueError::Make`].
    pub fn holder(&self, holder: &Holder, lifetime: Lifetime) -> Result<Issued, IssueError> {
        self.holders(std::slice::from_ref(holder), lifetime)
    }

    /// One client certificate of several servers and users. It is named after the first.
    ///
    /// # Errors
    /// [`IssueError::Make`].
    pub fn holders(&self, holders: &[Holder], lifetime: Lifetime) -> Result<Issued, IssueError> {
        let name = match holders.first() {
            Some(Holder::Server { id, .. }) => id,
            Some(Holder::User(name)) => name,
            None => "nobody",
        };
        let uris = holders.iter().map(|holder| Ok(SanType::URI(holder.uri().try_into()?)));
        let alternatives = uris.collect::<Result<Vec<_>, rcgen::Error>>()?;
        self.issue(name, alternatives, ExtendedKeyUsagePurpose::ClientAuth, lifetime)
    }

    fn issue(
        &self,
        name: &str,
        alternatives: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        lifetime: Lifetime,
    ) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        // None outlives its authority, because it would not be valid then.
        let mut params = params(name, Lifetime { until: lifetime.until.min(self.until), ..lifetime });
        params.subject_alt_names = alternatives;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn params(name: &str, lifetime: Lifetime) -> CertificateParams {
    let time = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (time(lifetime.from), time(lifetime.until));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.chars().take(MAX_COMMON_NAME).collect::<String>());
    params
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::{ClientFiles, ClientTls, ServerFiles, ServerTls, describe_file, is_for_host};

    #[test]
    fn what_an_authority_makes_is_read_again_and_none_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, issued: &Issued| {
            fs::write(at(&format!("{name}.pem")), &issued.certificate).unwrap();
            fs::write(at(&format!("{name}.key")), &issued.key).unwrap();
        };
        let (_, own) = Authority::make("a cluster").unwrap();
        write("ca", &own);
        let authority = Authority::read(&at("ca.pem"), &at("ca.key")).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
        write("master", &authority.host(&names, Lifetime::days(10 * AUTHORITY_DAYS)).unwrap());
        let holder = Holder::Server { server_type: "chat".into(), id: "chat-1".into() };
        write("chat-1", &authority.holder(&holder, Lifetime::days(SERVER_DAYS)).unwrap());

        let (ca, master) = (describe_file(&at("ca.pem")).unwrap(), describe_file(&at("master.pem")).unwrap());
        assert!(ca.authority && !master.authority && master.until <= ca.until);
        assert!(authority.has_signed(&master) && !Authority::make("another").unwrap().0.has_signed(&master));
        assert_eq!(master.hosts, names);
        for (host, good) in
            [("localhost", true), ("127.0.0.1", true), ("[::1]", true), ("example.org", false), ("", false)]
        {
            assert_eq!(is_for_host(&at("master.pem"), host), Ok(good), "{host}");
        }
        assert_eq!(describe_file(&at("chat-1.pem")).unwrap().holders, std::slice::from_ref(&holder));

        let files = ServerFiles { certificate: at("master.pem"), key: at("master.key"), client_ca: Some(at("ca.pem")) };
        let tls = ServerTls::load(files.clone()).unwrap();
        assert!(tls.takes_certificates() && tls.until() == master.until);
        let swapped = ServerTls::load(ServerFiles { key: at("chat-1.key"), ..files.clone() }).unwrap_err();
        assert!(swapped.path.ends_with("chat-1.key") && swapped.what.contains("not the key of"), "{swapped}");
        let not_an_authority = Authority::read(&at("master.pem"), &at("master.key")).err().unwrap().to_string();
        assert!(not_an_authority.contains("no authority's"), "{not_an_authority}");

        // A pair of which one file is written changes nothing until the other is.
        let (before, other) = (tls.until(), authority.host(&names, Lifetime::days(5)).unwrap());
        fs::write(at("master.pem"), &other.certificate).unwrap();
        assert!(tls.has_changed() && tls.reload().unwrap_err().what.contains("not the key of"));
        assert_eq!(tls.until(), before);
        fs::write(at("master.key"), &other.key).unwrap();
        tls.reload().unwrap();
        assert!(tls.until() < before && !tls.has_changed());
        write("master", &authority.host(&names, Lifetime { from: now() - 2 * DAY, until: now() - DAY }).unwrap());
        assert!(tls.reload().unwrap_err().what.contains("has expired"), "an expired one takes the place of none");
        assert!(ServerTls::load(files).unwrap().until() < now(), "a host starts with it all the same");

        let files =
            ClientFiles { ca: Some(at("ca.pem")), certificate: Some(at("chat-1.pem")), key: Some(at("chat-1.key")) };
        assert_eq!(ClientTls::load(files.clone()).unwrap().holders(), [holder]);
        let bad = ClientTls::load(ClientFiles { key: None, ..files }).unwrap_err();
        assert!(bad.path.ends_with("chat-1.pem") && bad.what.contains("no private key"), "{bad}");
    }
}
