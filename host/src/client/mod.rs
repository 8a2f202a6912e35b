//! The admin client as a library: what the command line and other tools use to talk to a master.
//!
//! It registers, sends requests, notifies and commands, and gives every wait a deadline. It knows the wire but no module: bodies are the
//! caller's. A client that was disconnected stays so; whoever wants to go on connects anew.

mod error;
mod options;
mod session;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;

pub use error::ClientError;
pub use options::Options;
pub use session::Push;

use self::session::ClientSession;
use crate::exchange::{Exchange, Sent};
use crate::failure::{Failure, code};
use crate::transport::socket_io::client::{ConnectError, connect};
use crate::transport::{Peer, Session};
use crate::wire::{Capabilities, Register, Role, Topic, VERSION, raw};

/// How long a client waits before it tries again, milliseconds, if its connection was closed before it had registered.
const AGAIN: [u64; 5] = [50, 100, 150, 200, 250];

/// A registered client.
pub struct AdminClient {
    session: Arc<ClientSession>,
    options: Options,
}

impl AdminClient {
    /// Connects to a master and registers. A master that has too many connections may close one before it has registered. Then this tries again a few times.
    ///
    /// # Errors
    /// [`ClientError::Connect`] where there is no master, [`ClientError::Refused`] where it does not accept the user,
    /// [`ClientError::Timeout`] and [`ClientError::Disconnected`].
    pub async fn connect(options: Options) -> Result<AdminClient, ClientError> {
        for wait in AGAIN {
            match AdminClient::try_connect(options.clone()).await {
                Err(ClientError::Connect { why: ConnectError::Closed(_), .. } | ClientError::Disconnected { .. }) => {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                other => return other,
            }
        }
        AdminClient::try_connect(options).await
    }

    async fn try_connect(options: Options) -> Result<AdminClient, ClientError> {
        let addr = options.address();
        let mut made = None;
        let accept = |peer: Peer| {
            let exchange = Exchange::new(peer, Topic::Client, options.requests);
            let (session, registered) = ClientSession::new(exchange, options.pushes.clone());
            let session = Arc::new(session);
            made = Some((session.clone(), registered));
            session as Arc<dyn Session>
        };
        connect(&addr, options.connection.clone(), accept)
            .await
            .map_err(|why| ClientError::Connect { addr: addr.clone(), why })?;
        // A connection has a session from its beginning.
        let Some((session, registered)) = made else {
            return Err(ClientError::Disconnected { addr, why: "the connection has no session".into() });
        };
        let client = AdminClient { session, options };
        let sent = client.peer().send(Topic::Register, raw(&client.registration()));
        sent.map_err(|_| client.disconnected())?;
        let answer = client.within("registration", client.options.register_time, registered).await?;
        match answer {
            Ok(answer) if answer.code == 1 => Ok(client),
            Ok(answer) => {
                client.peer().close("registration was refused");
                Err(ClientError::Refused { addr, why: answer.msg })
            }
            // The session is over, and has been told why.
            Err(_) => Err(client.disconnected()),
        }
    }

    fn registration(&self) -> Register {
        Register {
            id: self.options.id.clone(),
            role: Role::Client,
            server_type: None,
            pid: None,
            phase: None,
            down: false,
            info: None,
            token: None,
            username: Some(self.options.username.clone()).filter(|name| !name.is_empty()),
            password: (!self.options.password.expose().is_empty()).then(|| self.options.password_md5()),
            md5: true,
            version: Some(VERSION.into()),
            wit: Vec::new(),
            capabilities: Capabilities::default(),
        }
    }

    /// Asks a module of the master and waits for its answer, at most [`Options::request_time`].
    ///
    /// # Errors
    /// [`ClientError::Failed`] with what the master or the module says, [`ClientError::Timeout`], [`ClientError::Disconnected`],
    /// [`ClientError::Body`].
    pub async fn request(&self, module: &str, body: impl Serialize) -> Result<Box<RawValue>, ClientError> {
        self.request_within(module, body, self.options.request_time).await
    }

    /// As [`AdminClient::request`], with another time for the answer.
    ///
    /// # Errors
    /// As [`AdminClient::request`].
    pub async fn request_within(
        &self,
        module: &str,
        body: impl Serialize,
        time: Duration,
    ) -> Result<Box<RawValue>, ClientError> {
        let body = to_raw_value(&body).map_err(ClientError::Body)?;
        let sent = self.session.exchange.send(module, &body, 0);
        self.answer(sent, format!("the answer of `{module}`"), time).await
    }

    /// Tells a module of the master something; there is no answer.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`], [`ClientError::Body`].
    pub fn notify(&self, module: &str, body: impl Serialize) -> Result<(), ClientError> {
        let body = to_raw_value(&body).map_err(ClientError::Body)?;
        self.session.exchange.notify(module, &body).map_err(|failure| self.failed(failure))
    }

    /// Gives the master's console service a command, such as `list` or `modules`, and waits for the answer.
    ///
    /// # Errors
    /// As [`AdminClient::request`].
    pub async fn command(
        &self,
        command: &str,
        module: Option<&str>,
        body: impl Serialize,
    ) -> Result<Box<RawValue>, ClientError> {
        let body = to_raw_value(&body).map_err(ClientError::Body)?;
        let sent = self.session.exchange.send_command(command, module, &body);
        self.answer(sent, format!("the answer to `{command}`"), self.options.request_time).await
    }

    /// The master's address, `host:port`.
    pub fn address(&self) -> String {
        self.options.address()
    }

    /// Whether the master can still be asked. A connection that was lost in silence is noticed by its missing pings.
    pub fn is_open(&self) -> bool {
        // The transport knows of the end some moments before the session is told.
        self.session.why().is_none() && !self.peer().is_closing()
    }

    /// Closes the connection once everything was sent, and waits for that, at most the connection's `flush_time` and a little more.
    pub async fn close(self) {
        self.peer().close("the client is done");
        let _ = timeout(2 * self.options.connection.flush_time, self.session.over()).await;
        self.peer().cut("the client is done");
    }

    /// Waits for the answer to what was sent. `what` names the answer in messages.
    async fn answer(
        &self,
        sent: Result<Sent, Failure>,
        what: String,
        time: Duration,
    ) -> Result<Box<RawValue>, ClientError> {
        let sent = sent.map_err(|failure| self.failed(failure))?;
        self.within(what, time, sent).await?.map_err(|failure| self.failed(failure))
    }

    /// `disconnected` means a server, if the master says it, and this client, if its own connection is over.
    fn failed(&self, failure: Failure) -> ClientError {
        match failure.code == code::DISCONNECTED && !self.is_open() {
            true => self.disconnected(),
            false => ClientError::Failed(failure),
        }
    }

    async fn within<T>(
        &self,
        what: impl Into<String>,
        after: Duration,
        wait: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        let late = |_| ClientError::Timeout { addr: self.options.address(), what: what.into(), after };
        timeout(after, wait).await.map_err(late)
    }

    fn peer(&self) -> &Peer {
        self.session.exchange.peer()
    }

    fn disconnected(&self) -> ClientError {
        let why = self.session.why().or_else(|| self.peer().closed_because());
        let why = why.unwrap_or_else(|| "the connection is closed".into());
        ClientError::Disconnected { addr: self.options.address(), why }
    }
}

/// A client that is dropped without [`AdminClient::close`] still says goodbye where it can.
impl Drop for AdminClient {
    fn drop(&mut self) {
        self.peer().close("the client is done");
    }
}
