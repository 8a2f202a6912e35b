//! The program's side, for programs in Rust.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::super::functions::Runner;
use super::super::{CALL_DEADLINE, Functions, MAX_CALLS, Reach, late, own};
use super::message::{self, Hello, Message, Offers};
use super::outbox::Outbox;
use super::{OUTBOX_BYTES, VARIABLE};
use crate::exchange::Pending;
use crate::failure::{Failure, code};
use crate::util::line_reader::{LineRead, read_line};
use crate::wire::{Info, raw};

/// A connection to the host's control socket. Clones are the same connection, which ends with the last of them.
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// use pomelo_host::monitor::application::{Functions, control::Client};
///
/// let functions = Functions::new().on("logins", async |_: serde::de::IgnoredAny| Ok(["alice", "bob"]));
/// if let Some(client) = Client::from_environment(functions, false).await? {
///     // … load the world …
///     client.ready().await.map_err(std::io::Error::other)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    outbox: Outbox,
    pending: Pending,
    over: CancellationToken,
    _open: Arc<tokio_util::sync::DropGuard>,
}

impl Client {
    /// Connects to the socket that the environment names. Absent if it names none, because no monitor started the program.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn from_environment(functions: Functions, ready: bool) -> io::Result<Option<Client>> {
        match std::env::var_os(VARIABLE) {
            Some(path) => Self::connect(Path::new(&path), functions, ready).await.map(Some),
            None => Ok(None),
        }
    }

    /// Connects and offers functions. With `ready` the server can be registered at once, otherwise when [`Client::ready`] is called.
    ///
    /// # Errors
    /// If nobody listens on the socket.
    pub async fn connect(path: &Path, functions: Functions, ready: bool) -> io::Result<Client> {
        let (reader, writer) = UnixStream::connect(path).await?.into_split();
        let over = CancellationToken::new();
        let outbox = Outbox::new(writer, over.clone());
        let offers = Offers(functions.names().into_iter().collect());
        let hello = Hello { offers, info: Info::new(), ready: Some(ready) };
        outbox.send(message::hello(&hello));
        let pending = Pending::new(MAX_CALLS);
        let reading =
            read(BufReader::new(reader), Runner::new("this server", functions), outbox.clone(), pending.clone());
        let (ended, failed) = (over.clone(), pending.clone());
        tokio::spawn(async move {
            ended.run_until_cancelled(reading).await;
            ended.cancel();
            failed.fail_all(&Failure::new(code::DISCONNECTED, "the control socket is closed"));
        });
        Ok(Client { outbox, pending, _open: Arc::new(over.clone().drop_guard()), over })
    }

    /// Tells the host that the server is ready to be registered.
    ///
    /// # Errors
    /// `disconnected`, `timeout`.
    pub async fn ready(&self) -> Result<(), Failure> {
        self.call::<Value>("ready", &Value::Null).await.map(drop)
    }

    /// Replaces what is added to the server's `info`, which all others see.
    ///
    /// # Errors
    /// `bad-message` for members that cannot be changed, `disconnected`, `timeout`.
    pub async fn info(&self, info: Info) -> Result<(), Failure> {
        self.call::<Value>("info", &Value::Object(info)).await.map(drop)
    }

    /// The servers of the cluster, from id to `info`.
    ///
    /// # Errors
    /// `disconnected`, `timeout`.
    pub async fn servers(&self) -> Result<Map<String, Value>, Failure> {
        self.call("servers", &Value::Null).await
    }

    /// Waits until the connection is over.
    pub async fn closed(&self) {
        self.over.cancelled().await;
    }

    async fn call<T: DeserializeOwned>(&self, name: &str, args: &Value) -> Result<T, Failure> {
        let waiting = self.pending.wait(usize::MAX)?;
        if !self.outbox.send(message::call(waiting.id, name, &raw(args))) {
            return Err(Failure::new(code::DISCONNECTED, "the control socket is closed"));
        }
        let answer = tokio::time::timeout(CALL_DEADLINE, waiting).await.map_err(|_| late(name, CALL_DEADLINE))??;
        serde_json::from_str(answer.get())
            .map_err(|error| Failure::new(code::BAD_ANSWER, format!("the host's answer to `{name}`: {error}")))
    }
}

async fn read(
    mut stream: BufReader<impl tokio::io::AsyncRead + Unpin>,
    runner: Runner,
    outbox: Outbox,
    pending: Pending,
) {
    let mut line = Vec::new();
    loop {
        match read_line(&mut stream, &mut line, OUTBOX_BYTES).await {
            Ok(LineRead::Whole) => {}
            Ok(LineRead::Longer) => {
                // The connection ends, because the line may be a change of the view, which the program would miss. The next `hello` brings the whole
                // view.
                return tracing::error!("the host sent a line of more than {OUTBOX_BYTES} bytes");
            }
            Ok(LineRead::End) | Err(_) => return,
        }
        match message::parse(&line) {
            Ok(Message::Call { id, name, args }) => {
                // The host bounds `stop` itself, with the deadline that it sends.
                let deadline = if name == own::STOP { std::time::Duration::MAX } else { super::super::crons::DEADLINE };
                let answer = runner.call(&name, args, deadline);
                if let Some(id) = id {
                    let (id, outbox) = (id.to_owned(), outbox.clone());
                    tokio::spawn(async move { outbox.send(message::answer(&id, &answer.await)) });
                }
            }
            Ok(Message::Answer { id, outcome }) => drop(pending.complete(id, outcome)),
            Ok(Message::Refused(failure)) => tracing::warn!(%failure, "said by the host"),
            Ok(Message::Welcome) => {}
            Ok(Message::Hello(_)) => tracing::warn!("the host says hello"),
            Err(malformed) => drop(outbox.send(message::refusal(malformed))),
        }
    }
}
