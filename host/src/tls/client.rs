//! The side that connects: which authority it trusts, and which certificate it shows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Side, TlsFault};
use super::files::{BadFile, Look, authorities, certificates, key, look, system_authorities};
use super::holder::Holder;
use super::provider;
use super::server::unusable;

/// Variables by which commands of a terminal are told their files.
pub const VARIABLES: [&str; 3] = ["POMELO_CA", "POMELO_CERT", "POMELO_KEY"];

/// The files of a side that connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that are trusted. If absent, those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to a host that asks for one, and those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// Its private key. If absent, the key is in the certificate's file.
    pub key: Option<PathBuf>,
}

/// Makes TLS connections. Clones mean the same. Files that have changed are read again before the next connection.
#[derive(Clone)]
pub struct ClientTls(Arc<State>);

struct State {
    files: ClientFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ClientConfig>,
    holders: Vec<Holder>,
    seen: Look,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`BadFile`].
    pub fn load(files: ClientFiles) -> Result<Self, BadFile> {
        let current = files.load()?;
        Ok(ClientTls(Arc::new(State { files, current: Mutex::new(current) })))
    }

    /// A configuration that makes no connection, because nobody is trusted.
    pub(crate) fn trusting_nobody() -> ClientConfig {
        // The provider has the default versions, so that there is no error.
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap_or_else(|_| ClientConfig::builder());
        builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    }

    /// For whom the certificate is that this side shows; nobody if it shows none.
    pub fn holders(&self) -> Vec<Holder> {
        self.0.current.lock().holders.clone()
    }

    /// The configuration for the next connection. Files that have changed and cannot be read change nothing, and the log says so.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut current = self.0.current.lock();
        if self.0.files.look() != current.seen {
            match self.0.files.load() {
                Ok(fresh) => *current = fresh,
                Err(bad) => tracing::warn!(%bad, "a changed certificate is not taken, and the one before is used"),
            }
        }
        current.config.clone()
    }

    /// Speaks TLS on a connection to `host`, a name or an address. It sets no time limit.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub async fn connect<S>(&self, host: &str, socket: S) -> Result<TlsStream<S>, TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| TlsFault::NoName(host))?;
        let connected = TlsConnector::from(self.config()).connect(name, socket).await;
        connected.map_err(|error| TlsFault::of(&error, Side::Connecting))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientTls").field(&self.0.files).finish()
    }
}

impl ClientFiles {
    fn look(&self) -> Look {
        let paths: Vec<&Path> =
            [&self.ca, &self.certificate, &self.key].into_iter().flatten().map(PathBuf::as_path).collect();
        look(&paths)
    }

    fn load(&self) -> Result<Current, BadFile> {
        // Before they are read, so that a change meanwhile is seen.
        let seen = self.look();
        let roots = match &self.ca {
            Some(path) => authorities(path)?,
            None => system_authorities()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(Path::new("TLS"), &error))?
            .with_root_certificates(roots);
        let (config, holders) = match &self.certificate {
            None => (builder.with_no_client_auth(), Vec::new()),
            Some(path) => {
                let (chain, described) = certificates(path)?;
                let key_path = self.key.as_ref().unwrap_or(path);
                let config = builder.with_client_auth_cert(chain, key(key_path)?).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        let what = format!("it is not the key of the certificate {}", path.display());
                        BadFile::new(key_path, what, "replace both files together")
                    }
                    error => unusable(key_path, &error),
                })?;
                (config, described.holders)
            }
        };
        Ok(Current { config: Arc::new(config), holders, seen })
    }
}
