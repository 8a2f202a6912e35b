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

use self::session::Link;
use crate::failure::{Failure, code};
use crate::transport::socket_io::client::connect;
use crate::transport::{Peer, SendError};
use crate::wire::{Capabilities, Command, Notify, Register, Request, Role, Topic, VERSION, raw};

/// A registered client.
pub struct AdminClient {
    peer: Peer,
    link: Arc<Link>,
    options: Options,
}

impl AdminClient {
    /// Connects to a master and registers.
    ///
    /// # Errors
    /// [`ClientError::Connect`] where there is no master, [`ClientError::Refused`] where it does not accept the user,
    /// [`ClientError::Timeout`] and [`ClientError::Disconnected`].
    pub async fn connect(options: Options) -> Result<AdminClient, ClientError> {
        let address = options.address();
        let (link, registered) = Link::new(options.requests, options.pushes.clone());
        let link = Arc::new(link);
        let peer = connect(&address, options.connection.clone(), |_| link.clone())
            .await
            .map_err(|why| ClientError::Connect { addr: address, why })?;
        let client = AdminClient { peer, link, options };
        client.send(Topic::Register, raw(&client.registration()))?;
        let answer = client.within("registration", client.options.register_time, registered).await?;
        match answer {
            Ok(answer) if answer.code == 1 => Ok(client),
            Ok(answer) => {
                client.peer.close("registration was refused");
                Err(ClientError::Refused { why: answer.msg })
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
            down: false,
            info: None,
            token: None,
            username: Some(self.options.username.clone()),
            password: Some(self.options.password_md5()),
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

    /// As [`AdminClient::request`], for what is known to take another time.
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
        let what = format!("the answer of `{module}`");
        self.ask(what, time, |id| raw(&Request { req_id: id, module_id: module, body: &body, depth: 0, trace: None }))
            .await
    }

    /// Tells a module of the master something; there is no answer.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`], [`ClientError::Body`].
    pub fn notify(&self, module: &str, body: impl Serialize) -> Result<(), ClientError> {
        let body = to_raw_value(&body).map_err(ClientError::Body)?;
        self.send(Topic::Client, raw(&Notify { module_id: module, body: &body }))
    }

    /// Gives the master's console service a command (`list`, `enable`, `disable`, `modules`) and waits for the answer.
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
        let what = format!("the answer to `{command}`");
        let time = self.options.request_time;
        self.ask(what, time, |id| raw(&Command { req_id: Some(id), command, module_id: module, body: &body })).await
    }

    /// Whether the master can still be asked. A connection that was lost in silence is noticed by its missing pings.
    pub fn is_open(&self) -> bool {
        self.link.why().is_none() && self.peer.closed_because().is_none()
    }

    /// Closes the connection once everything was sent, and waits for that, at most the connection's `flush_time` and a little more.
    pub async fn close(self) {
        self.peer.close("the client is done");
        let _ = timeout(2 * self.options.connection.flush_time, self.link.over()).await;
        self.peer.cut("the client is done");
    }

    async fn ask(
        &self,
        what: String,
        time: Duration,
        frame: impl FnOnce(u64) -> Box<RawValue>,
    ) -> Result<Box<RawValue>, ClientError> {
        let waiting = self.link.pending.wait().map_err(|failure| self.failed(failure))?;
        self.send(Topic::Client, frame(waiting.id))?;
        let answer = self.within(what, time, waiting).await?;
        answer.map_err(|failure| self.failed(failure))
    }

    /// The master may fail a request because a server is disconnected; that this client is, it cannot say.
    fn failed(&self, failure: Failure) -> ClientError {
        if failure.code == code::DISCONNECTED && self.link.why().is_some() {
            self.disconnected()
        } else {
            ClientError::Failed(failure)
        }
    }

    async fn within<T>(
        &self,
        what: impl Into<String>,
        after: Duration,
        wait: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        timeout(after, wait).await.map_err(|_| ClientError::Timeout { what: what.into(), after })
    }

    fn send(&self, topic: Topic, payload: Box<RawValue>) -> Result<(), ClientError> {
        self.peer.send(topic, payload).map_err(|error| match error {
            SendError::Full => ClientError::Disconnected { why: error.to_string() },
            SendError::Closed => self.disconnected(),
        })
    }

    fn disconnected(&self) -> ClientError {
        let why = self.link.why().or_else(|| self.peer.closed_because());
        ClientError::Disconnected { why: why.unwrap_or_else(|| "the connection is closed".into()) }
    }
}

/// A client that is dropped without [`AdminClient::close`] still says goodbye where it can.
impl Drop for AdminClient {
    fn drop(&mut self) {
        self.peer.close("the client is done");
    }
}
