//! The files of `[tls]` while a host runs: what they hold counts for new connections within a second or two of a change. Connections that are there keep what
//! they began with.
//!
//! The files are looked at once a second, and read again at once when somebody says so. Files that cannot be used change nothing, and an event says why. This
//! part also tells when the certificate ends soon.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::journal::{Event, Journal, kind};
use crate::tls::{BadFile, DAY, Look, ServerTls, WARN_DAYS, now, when};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Days before its end at which somebody is told of it, each once.
const TOLD: [i64; 4] = [WARN_DAYS, 7, 1, 0];

/// The files of a host's certificate, under observation.
pub struct CertificateFiles {
    tls: ServerTls,
    journal: Journal,
    /// The end of which was told last, and how many days before.
    told: Mutex<Option<(i64, i64)>>,
}

impl CertificateFiles {
    /// Observes the files of a certificate that is in force. Events go to `journal`.
    pub fn new(tls: ServerTls, journal: Journal) -> Arc<Self> {
        Arc::new(CertificateFiles { tls, journal, told: Mutex::default() })
    }

    /// Follows the files until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut refused = None;
        loop {
            self.tell_of_its_end().await;
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
            // Files that were refused are read again when they have changed again. Files that are still being written are read in a later round.
            let look = self.tls.look();
            if !self.tls.has_changed() || refused.as_ref() == Some(&look) || !self.settled(&look).await {
                continue;
            }
            refused = self.read().await.is_err().then_some(look);
        }
    }

    /// Reads the files again, whether they have changed or not, and says what came of it.
    ///
    /// # Errors
    /// Why what was read before stays in force.
    pub async fn read(&self) -> Result<(), BadFile> {
        let tls = self.tls.clone();
        let read = tokio::task::spawn_blocking(move || tls.reload()).await;
        // A panic would be one of the libraries that read the files.
        let Ok(read) = read else { return Ok(()) };
        let file = self.tls.certificate().display();
        let message = match &read {
            Ok(()) => format!(
                "the certificate {file} was read again and counts for new connections; it ends on {}",
                when(self.tls.until())
            ),
            Err(bad) => format!("the changed certificate is not taken, and the one before stays in force: {bad}"),
        };
        match &read {
            Ok(()) => tracing::info!("{message}"),
            Err(_) => tracing::error!("{message}"),
        }
        self.journal.record(Event::new(kind::CERTIFICATE, message));
        self.tell_of_its_end().await;
        read
    }

    /// Sets the metric, and tells once of each of [`TOLD`].
    async fn tell_of_its_end(&self) {
        let until = self.tls.until();
        let left = until - now();
        metrics::gauge!("pomelo_tls_certificate_end_seconds").set(left as f64);
        let Some(days) = TOLD.into_iter().rfind(|days| left <= days * DAY) else { return };
        let mut told = self.told.lock().await;
        if told.replace((until, days)) == Some((until, days)) {
            return;
        }
        let (file, when) = (self.tls.certificate().display(), when(until));
        let message = match left {
            ..=0 => format!(
                "the certificate {file} has expired on {when}: nobody who checks it connects; `pomelo cert renew` makes a new one"
            ),
            _ => format!("the certificate {file} ends on {when}: `pomelo cert renew` makes a new one"),
        };
        tracing::warn!("{message}");
        self.journal.record(Event::new(kind::CERTIFICATE, message));
    }

    async fn settled(&self, look: &Look) -> bool {
        tokio::time::sleep(LOOK / 10).await;
        self.tls.look() == *look
    }
}
