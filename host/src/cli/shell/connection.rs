//! The shell's connection to the master, made when a command needs it and again after it was lost; and the names that completion offers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::super::admin::{CONSOLE, Session};
use super::super::arguments::AdminArgs;
use super::super::print;

/// Age from which names are asked for again.
const FRESH: Duration = Duration::from_secs(3);
/// How long a Tab waits for names. Names that come later are offered by the next Tab.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connection, and the names that are known for completion.
pub(super) struct Connection {
    admin: AdminArgs,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    known: Mutex<Known>,
}

/// The names that can be completed, sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub servers: Vec<String>,
    pub modules: Vec<String>,
}

#[derive(Default)]
struct Known {
    names: Names,
    asked: Option<Instant>,
}

impl Connection {
    pub fn new(admin: AdminArgs) -> Connection {
        Connection { admin, session: tokio::sync::Mutex::default(), known: Mutex::default() }
    }

    /// The arguments of the connection, for commands that make one of their own.
    pub fn admin(&self) -> &AdminArgs {
        &self.admin
    }

    /// The session with the master. Connects where there is none or it was lost.
    pub async fn session(&self) -> anyhow::Result<Arc<Session>> {
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref().filter(|session| session.client.is_open()) {
            return Ok(session.clone());
        }
        let again = current.is_some();
        let session = Arc::new(Session::connect(&self.admin).await?);
        if again {
            print::note("connected to the master again");
        }
        *current = Some(session.clone());
        Ok(session)
    }

    /// Closes the connection in order.
    pub async fn close(&self) {
        if let Some(session) = self.session.lock().await.take().and_then(Arc::into_inner) {
            session.client.close().await;
        }
    }

    /// Ids of the servers that the master knows, running or not.
    pub async fn servers(&self) -> anyhow::Result<Vec<String>> {
        let session = self.session().await?;
        self.ask_servers(&session).await
    }

    async fn ask_servers(&self, session: &Session) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Listed {
            msg: Map<String, Value>,
            #[serde(default)]
            missing: Map<String, Value>,
            #[serde(default)]
            servers: Vec<Server>,
        }
        #[derive(Deserialize)]
        struct Server {
            id: String,
        }
        let answer = session.client.request(CONSOLE, json!({ "signal": "list" })).await?;
        let Listed { msg, missing, servers } = serde_json::from_str(answer.get())?;
        let answered = msg.into_iter().chain(missing).map(|(id, _)| id);
        let mut servers: Vec<String> = answered.chain(servers.into_iter().map(|server| server.id)).collect();
        servers.sort_unstable();
        servers.dedup();
        self.known.lock().names.servers.clone_from(&servers);
        Ok(servers)
    }

    async fn ask_modules(&self, session: &Session) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Module {
            id: String,
        }
        #[derive(Deserialize)]
        struct Listed {
            modules: Vec<Module>,
        }
        let answer = session.client.command("modules", None, json!({})).await?;
        let listed: Listed = serde_json::from_str(answer.get())?;
        let mut modules: Vec<String> = listed.modules.into_iter().map(|module| module.id).collect();
        modules.sort_unstable();
        self.known.lock().names.modules = modules;
        Ok(())
    }

    /// Names for completion; asks the master where they are not fresh. Must not be called from a task, because it blocks the thread.
    pub fn names(self: &Arc<Self>, runtime: &Handle) -> Names {
        let stale = {
            let mut known = self.known.lock();
            let stale = known.asked.is_none_or(|asked| asked.elapsed() > FRESH);
            if stale {
                known.asked = Some(Instant::now());
            }
            stale
        };
        if stale {
            let this = self.clone();
            // Not cancelled when the wait is over; the client's own deadline ends it.
            let refresh = runtime.spawn(async move { this.refresh().await });
            let _ = runtime.block_on(async { timeout(PATIENCE, refresh).await });
        }
        self.known.lock().names.clone()
    }

    /// Asks for the names. Failures are not shown, because the next command shows them.
    async fn refresh(&self) {
        if let Ok(session) = self.session().await {
            let (_, _) = tokio::join!(self.ask_servers(&session), self.ask_modules(&session));
        }
    }
}
