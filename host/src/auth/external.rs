//! A check by the operator's own command or HTTP endpoint: pomelo's `adminAuthUser` and `adminAuthServerMaster`.
//!
//! The question is one JSON object, on the command's standard input or as the body of a POST, because everybody on the machine can read a command
//! line. The answer is one JSON object. If the check fails, the peer is refused and the log says why. No answer is kept. This part knows no
//! connection.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::{AccessRefused, Level};
use crate::tls::{BadFile, ClientFiles, ClientTls};
use crate::util::line_budget;
use crate::util::process_group::ProcessGroup;

/// Checks that run or wait; one more is refused.
const WAITING: usize = 64;
/// The longest answer, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// What lines of the log about checks are counted under.
const CHECK: &str = "the operator's own check";
/// The exit code by which a command refuses without an answer.
const REFUSED: i32 = 1;

/// The command or endpoint that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A program and its arguments, never empty, and the directory that it runs in. No shell is involved.
    Command(Vec<String>, PathBuf),
    /// An `http` or `https` address to which the question is posted.
    Url(Uri),
}

/// The bounds on checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a check may take, with the wait for its turn. Default 5 s.
    pub timeout: Duration,
    /// Checks that run at the same time. Default 4.
    pub concurrent: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { timeout: Duration::from_secs(5), concurrent: 4 }
    }
}

/// The question, with what the peer shows: `{"type": "client" or "monitor", …}`. Absent members are left out.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Question<'a> {
    /// A client wants to register.
    Client {
        /// The client's id, of its own choice.
        id: &'a str,
        /// The user's name.
        username: &'a str,
        /// The password, or with `md5` the md5 of it in hexadecimal.
        password: &'a str,
        /// Whether `password` is the md5.
        md5: bool,
        /// Where the connection comes from.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// A monitor wants to register.
    #[serde(rename_all = "camelCase")]
    Monitor {
        /// The server id.
        id: &'a str,
        /// The server type.
        server_type: &'a str,
        /// The token that it shows.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        /// Where the connection comes from.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    /// A user's level, from 1.
    #[serde(default)]
    level: Option<u32>,
    /// Why the peer is refused, for the log.
    #[serde(default)]
    reason: Option<String>,
}

/// Why there is no usable answer. No variant holds the question or the answer, because they may hold secrets.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("the command cannot be run: {0}")]
    Run(io::Error),
    #[error("the command ended with {0}")]
    Ended(std::process::ExitStatus),
    #[error("the endpoint cannot be asked: {0}")]
    Ask(Box<dyn std::error::Error + Send + Sync>),
    #[error("the endpoint answered with status {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    Long,
    #[error("the answer is not `{{\"ok\": true, \"level\": 1}}` or `{{\"ok\": false}}`: {0}")]
    Form(&'static str),
}

/// A check by the operator's own command or endpoint. Clones share the same bounds.
#[derive(Clone, Debug)]
pub struct External(Arc<ExternalCheck>);

#[derive(Debug)]
struct ExternalCheck {
    way: Way,
    bounds: Bounds,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    running: Semaphore,
    waiting: Semaphore,
}

impl External {
    /// A check by that command or endpoint. Where the endpoint's address is `https`, its certificate must be of the authority of `ca`, or if none is given of
    /// one that this system trusts.
    ///
    /// # Errors
    /// [`BadFile`] if the authorities cannot be read.
    pub fn new(way: Way, bounds: Bounds, ca: Option<PathBuf>) -> Result<Self, BadFile> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(bounds.timeout));
        // The connector above it knows both schemes.
        connector.enforce_http(false);
        let is_https = matches!(&way, Way::Url(address) if address.scheme_str() == Some("https"));
        let tls = match is_https {
            true => (*ClientTls::load(ClientFiles { ca, ..ClientFiles::default() })?.config()).clone(),
            false => ClientTls::trusting_nobody(),
        };
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
        Ok(External(Arc::new(ExternalCheck {
            way,
            bounds,
            // Each check has a connection of its own, because the endpoint may close a kept one at the moment in which it is used.
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector),
            running: Semaphore::new(bounds.concurrent.max(1)),
            waiting: Semaphore::new(WAITING.max(bounds.concurrent)),
        })))
    }

    /// How many checks run at the same time.
    pub(super) fn concurrent(&self) -> usize {
        self.0.bounds.concurrent.max(1)
    }

    /// The level of the user that the question is about.
    ///
    /// # Errors
    /// [`AccessRefused::Wrong`] if the answer is no, [`AccessRefused::Busy`] if too many checks run or wait, [`AccessRefused::Unavailable`] if there
    /// is no usable answer.
    pub async fn level(&self, question: &Question<'_>) -> Result<Level, AccessRefused> {
        let level = self.ask(question).await?;
        match level {
            Some(level @ 1..) => Ok(Level(level)),
            _ => Err(unavailable(&Fault::Form("a user needs `level`, from 1"))),
        }
    }

    /// Checks the monitor that the question is about.
    ///
    /// # Errors
    /// As [`External::level`].
    pub async fn permits(&self, question: &Question<'_>) -> Result<(), AccessRefused> {
        self.ask(question).await.map(drop)
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Option<u32>, AccessRefused> {
        let check = &*self.0;
        let _waiting = check.waiting.try_acquire().map_err(|_| AccessRefused::Busy)?;
        // The parts are texts and numbers, which can always be written.
        let question = serde_json::to_vec(question).map_err(|_| AccessRefused::Unavailable)?;
        let checked = async {
            let _running = check.running.acquire().await;
            match &check.way {
                Way::Command(words, directory) => run(words, directory, &question).await,
                Way::Url(address) => check.post(address, question).await,
            }
        };
        let outcome = tokio::time::timeout(check.bounds.timeout, checked).await;
        match outcome.unwrap_or(Err(Fault::Late(check.bounds.timeout))) {
            Ok(Some(Answer { ok: true, level, .. })) => Ok(level),
            Ok(answer) => {
                let reason = answer.and_then(|answer| answer.reason);
                let reason = reason.as_deref().map(crate::wire::shown);
                line_budget::caused(CHECK, || tracing::info!(reason, "the operator's own check says no"));
                Err(AccessRefused::Wrong)
            }
            Err(fault) => Err(unavailable(&fault)),
        }
    }
}

impl ExternalCheck {
    /// Posts the question. The answer is absent if the status refuses.
    async fn post(&self, address: &Uri, question: Vec<u8>) -> Result<Option<Answer>, Fault> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(question)))
            .map_err(|error| Fault::Ask(error.into()))?;
        let response = self.client.request(request).await.map_err(|error| Fault::Ask(with_causes(&error).into()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
            status => return Err(Fault::Status(status)),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => Fault::Long,
            false => Fault::Ask(error),
        })?;
        parse(&body.to_bytes()).map(Some)
    }
}

/// Runs the command with the question on its standard input. The answer is absent if the exit code refuses.
async fn run(words: &[String], directory: &std::path::Path, question: &[u8]) -> Result<Option<Answer>, Fault> {
    let (program, arguments) = words.split_first().ok_or_else(|| Fault::Run(io::ErrorKind::InvalidInput.into()))?;
    // A relative program is named in full, because platforms differ in whether the parent or the child looks for it.
    let program = match std::path::Path::new(program) {
        path if path.components().count() > 1 => directory.join(path),
        name => name.to_owned(),
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    // If the command is late or its answer too long, `group` is dropped, which kills the command and all that it has started.
    let mut group = ProcessGroup::spawn(command).map_err(Fault::Run)?;
    let (stdin, stdout) = (group.take_stdin(), group.take_stdout());
    let ask = async {
        // A command that closes the pipe before it has read everything is no error.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(question).await;
            let _ = stdin.write_all(b"\n").await;
        }
    };
    let listen = async {
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_ANSWER as u64 + 1).read_to_end(&mut said).await?;
        }
        Ok(said)
    };
    let ((), said) = tokio::join!(ask, listen);
    let said: Vec<u8> = said.map_err(Fault::Run)?;
    if said.len() > MAX_ANSWER {
        return Err(Fault::Long);
    }
    let status = group.leader_ended().await.map_err(Fault::Run)?;
    group.let_go();
    match status.code() {
        Some(0) => parse(&said).map(Some),
        Some(REFUSED) => Ok(None),
        _ => Err(Fault::Ended(status)),
    }
}

fn parse(text: &[u8]) -> Result<Answer, Fault> {
    use serde_json::error::Category;
    serde_json::from_slice(text).map_err(|error| {
        // The error itself could repeat a part of the answer.
        Fault::Form(match error.classify() {
            Category::Data => "a member is missing or of another type",
            _ => "it is not one JSON object",
        })
    })
}

fn unavailable(fault: &Fault) -> AccessRefused {
    metrics::counter!("pomelo_auth_check_failures_total").increment(1);
    line_budget::caused(CHECK, || {
        tracing::error!(%fault, "the operator's own check of a login failed, and nobody is let in by it");
    });
    AccessRefused::Unavailable
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[path = "external_tests.rs"]
mod tests;
