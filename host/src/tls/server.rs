//! The master's side: its certificate and key, and the authority that signs its peers' certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, server::NoClientAuth};
use tokio_rustls::TlsAcceptor;

use super::files::{BadFile, Look, authorities, certificates, key, look};
use super::{now, provider, when};

/// What this port speaks over TLS.
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"mqtt"];

/// The files of a host that others connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign certificates of servers and users. If absent, no peer is asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// The certificate of a host, and how it takes connections. Clones mean the same. Files that were read again count for new connections.
#[derive(Clone)]
pub struct ServerTls(Arc<State>);

struct State {
    files: ServerFiles,
    current: RwLock<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// Until when the certificate is valid, seconds since 1970.
    until: i64,
    /// What the files looked like before they were read.
    seen: Look,
}

impl ServerTls {
    /// Reads the files. A certificate that has expired is taken: whoever starts a host must be able to reach it and mend that.
    ///
    /// # Errors
    /// [`BadFile`].
    pub fn load(files: ServerFiles) -> Result<Self, BadFile> {
        let current = files.load()?;
        Ok(ServerTls(Arc::new(State { files, current: RwLock::new(current) })))
    }

    /// Reads the files again, whether they have changed or not. Connections that are there go on with what they began with.
    ///
    /// # Errors
    /// [`BadFile`]; what was read before stays in force. A certificate that has expired, or is not valid yet, is not taken in place of another.
    pub fn reload(&self) -> Result<(), BadFile> {
        let fresh = self.0.files.load()?;
        let mut current = self.0.current.write();
        if fresh.until <= now() {
            let what = format!("the certificate has expired on {}", when(fresh.until));
            return Err(BadFile::new(&self.0.files.certificate, what, "`pomelo cert renew` makes a new one"));
        }
        *current = fresh;
        Ok(())
    }

    /// Whether the files look other than when they were read into force.
    pub fn has_changed(&self) -> bool {
        self.0.files.look() != self.0.current.read().seen
    }

    /// What the files look like now. Two equal looks mean that nobody has written meanwhile.
    pub fn look(&self) -> Look {
        self.0.files.look()
    }

    /// Until when the certificate in force is valid, seconds since 1970.
    pub fn until(&self) -> i64 {
        self.0.current.read().until
    }

    /// The certificate's file.
    pub fn certificate(&self) -> &Path {
        &self.0.files.certificate
    }

    /// Whether peers may show certificates.
    pub fn takes_certificates(&self) -> bool {
        self.0.files.client_ca.is_some()
    }

    /// Takes connections with what is in force now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.current.read().config.clone())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.0.files).finish()
    }
}

impl ServerFiles {
    fn look(&self) -> Look {
        let paths: Vec<&Path> = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        look(&paths)
    }

    fn load(&self) -> Result<Current, BadFile> {
        // Before they are read, so that a change meanwhile is seen.
        let seen = self.look();
        let (chain, described) = certificates(&self.certificate)?;
        if described.from > now() {
            let what = format!("the certificate is valid only from {} on", when(described.from));
            return Err(BadFile::new(&self.certificate, what, "is this machine's clock right?"));
        }
        let key = key(&self.key)?;
        let verifier: Arc<dyn ClientCertVerifier> = match &self.client_ca {
            None => Arc::new(NoClientAuth),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider());
                // Whoever shows none needs a password or a token.
                verifier.allow_unauthenticated().build().map_err(|error| unusable(path, &error))?
            }
        };
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.certificate, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => BadFile::new(
                &self.key,
                format!("it is not the key of the certificate {}", self.certificate.display()),
                "replace both files together",
            ),
            error => unusable(&self.key, &error),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Current { config: Arc::new(config), until: described.until, seen })
    }
}

pub(super) fn unusable(path: &Path, error: &dyn fmt::Display) -> BadFile {
    let hint = "keys of RSA from 2048 bits on, ECDSA (P-256, P-384) and Ed25519 can be used";
    BadFile::new(path, format!("it cannot be used: {error}"), hint)
}
