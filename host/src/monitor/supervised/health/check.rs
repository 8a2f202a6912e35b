//! One check of a program: of a port, over HTTP, over the control socket, or by a command.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::config::HealthCheck;
use crate::failure::code;
use crate::monitor::application::Reach;
use crate::supervise::SERVICE_MANAGER;
use crate::util::process_group::ProcessGroup;
use crate::util::visible::steers;
use crate::util::{cut, in_words};
use crate::wire::{raw, shown};

/// The most bytes that are read of an answer that says what is wrong, or of a command's standard error.
const MAX_READ: usize = 4096;
/// The most bytes of it that are told.
const MAX_TOLD: usize = 200;
/// How long the last words of a command that has ended are waited for. Something that it has left behind may still hold its standard error.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What is asked of a program, and the way to it.
pub(in crate::monitor::supervised) struct Asked {
    pub check: HealthCheck,
    /// The program's functions.
    pub reach: Arc<dyn Reach>,
    /// The directory in which a command runs; by default this host's.
    pub cwd: Option<PathBuf>,
    /// What is added to a command's environment: that of the program.
    pub env: BTreeMap<String, String>,
    /// Variables that a command does not inherit.
    pub env_remove: Vec<String>,
}

impl Asked {
    /// The label of the check in metrics, and what it asks, in words. Arguments of a command are left out, because they may be secrets.
    pub fn name(&self) -> (&'static str, String) {
        match &self.check {
            HealthCheck::Port(address) => ("port", format!("somebody listens on {address}")),
            HealthCheck::Http { address, path } => ("http", format!("{} is answered", get(address, path))),
            HealthCheck::Control(name) => ("control", format!("it answers `{name}`")),
            HealthCheck::Command(words) => ("command", format!("`{}` ends with code 0", program(words))),
        }
    }

    /// Checks the program once, within that time; why it is not well.
    pub async fn ask(&self, at_most: Duration) -> Result<(), String> {
        let late = |what: String| format!("{what} within {}", in_words(at_most));
        match &self.check {
            HealthCheck::Port(address) => match timeout(at_most, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("{address} cannot be connected to: {error}")),
                Err(_) => Err(late(format!("{address} took no connection"))),
            },
            HealthCheck::Http { address, path } => timeout(at_most, http(address, path))
                .await
                .unwrap_or_else(|_| Err(late(format!("{} was not answered", get(address, path))))),
            HealthCheck::Control(name) => self.control(name, at_most).await,
            HealthCheck::Command(words) => timeout(at_most, self.command(words))
                .await
                .unwrap_or_else(|_| Err(late(format!("`{}` did not end", program(words))))),
        }
    }

    async fn control(&self, name: &str, at_most: Duration) -> Result<(), String> {
        if !self.reach.has(name) {
            return Err(format!("it does not offer `{}` over its control socket", shown(name)));
        }
        match self.reach.call(name, &raw(&json!({})), at_most).await {
            Ok(answer) if answer.get() == "false" => Err(format!("it answered `{}` with false", shown(name))),
            Ok(_) => Ok(()),
            Err(failure) if failure.code == code::TIMEOUT => {
                Err(format!("it did not answer `{}` within {}", shown(name), in_words(at_most)))
            }
            Err(failure) => Err(format!("`{}` failed: {}", shown(name), told(failure.message.as_bytes()))),
        }
    }

    async fn command(&self, words: &[String]) -> Result<(), String> {
        let failed = |error: io::Error| format!("`{}` cannot be run: {error}", program(words));
        let (first, arguments) = words.split_first().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        // A relative program is named in full, because platforms differ in whether the parent or the child looks for it.
        let path = match &self.cwd {
            Some(cwd) if Path::new(first).components().count() > 1 => cwd.join(first),
            _ => first.into(),
        };
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.env_remove.iter().map(String::as_str).chain(SERVICE_MANAGER).for_each(|name| {
            command.env_remove(name);
        });
        command.envs(&self.env);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        // It is dropped in any case, which kills what the command has left behind: otherwise that would pile up.
        let mut group = ProcessGroup::spawn(command).map_err(failed)?;
        let words_said = group.take_stderr().map(|stderr| AbortOnDropHandle::new(tokio::spawn(beginning(stderr))));
        let status = group.leader_ended().await.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        drop(group);
        let said = match words_said {
            Some(said) => timeout(LAST_WORDS, said).await.ok().and_then(Result::ok).unwrap_or_default(),
            None => Vec::new(),
        };
        let how = match status.code() {
            Some(code) => format!("ended with code {code}"),
            None => "was ended by a signal".to_owned(),
        };
        Err(with(format!("`{}` {how}", program(words)), &said))
    }
}

/// Asks over HTTP. Only the status counts, and a redirection is not followed.
async fn http(address: &str, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| {
        let causes = std::iter::successors(Some(error), |error| error.source());
        format!("{} failed: {}", get(address, path), causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    };
    let request = Request::get(format!("http://{address}{path}"))
        .header(header::USER_AGENT, concat!("pomelo-health/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    // Each check has a connection of its own, because whether a new one is taken is a part of what is checked.
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let response = client.request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let why = format!("{} was answered with status {}", get(address, path), status.as_u16());
    // What the body says helps, and need not be there.
    Err(match timeout(LAST_WORDS, body(response.into_body())).await {
        Ok(said) => with(why, &said),
        Err(_) => why,
    })
}

/// The beginning of a body.
async fn body(mut body: Incoming) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(&data[..data.len().min(MAX_READ - read.len())]);
        }
        if read.len() >= MAX_READ {
            break;
        }
    }
    read
}

/// The beginning of a stream, which is read to its end.
async fn beginning(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut text = Vec::new();
    // What cannot be read is at its end.
    let _ = (&mut stream).take(MAX_READ as u64).read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    text
}

fn get(address: &str, path: &str) -> String {
    // What stands behind the path may be a secret.
    format!("GET http://{address}{}", shown(path.split('?').next().unwrap_or_default()))
}

fn program(words: &[String]) -> String {
    words.first().map(|word| shown(word)).unwrap_or_default()
}

/// Adds the first line of what was said, if anything was.
fn with(why: String, said: &[u8]) -> String {
    let said = told(said);
    if said.is_empty() { why } else { format!("{why}: {said}") }
}

/// The first line of a text that has one, fit to be told.
fn told(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    line.retain(|letter| !steers(letter));
    cut(&mut line, MAX_TOLD);
    line
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
