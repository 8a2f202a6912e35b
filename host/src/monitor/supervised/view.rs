//! The application's view of the cluster: in memory, and for a program in a file.
//!
//! The file is JSON, `{"self": id, "servers": {id: info}, "startOver": bool}`. It is replaced as a whole, so that a program that reads it at
//! any time finds the view of one moment. Its name does not change, its inode does: programs watch the folder or look at the file
//! again from time to time.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Failure, code};
use crate::plugin::capability::Application;
use crate::wire::Info;

/// The view, and the file that it is kept in, if there is one.
pub(super) struct View(Arc<Inner>);

struct Inner {
    id: String,
    state: Mutex<State>,
    file: Option<PathBuf>,
    /// The change that the file has; held while it is written.
    written: Mutex<u64>,
}

#[derive(Default)]
struct State {
    servers: Map<String, Value>,
    start_over: bool,
    /// Counts changes.
    change: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents<'a> {
    #[serde(rename = "self")]
    id: &'a str,
    servers: &'a Map<String, Value>,
    start_over: bool,
}

impl View {
    /// A view that nobody but modules can see.
    pub(super) fn in_memory(id: &str) -> Self {
        View(Arc::new(Inner { id: id.to_owned(), state: Mutex::default(), file: None, written: Mutex::new(0) }))
    }

    /// A view in a file, which is written, still without servers, before this returns.
    pub(super) async fn in_file(id: &str, file: PathBuf) -> io::Result<Self> {
        let mut view = Inner { id: id.to_owned(), state: Mutex::default(), file: Some(file), written: Mutex::new(0) };
        view.state.get_mut().change = 1;
        let view = Arc::new(view);
        let writer = view.clone();
        tokio::task::spawn_blocking(move || writer.write(1)).await.map_err(io::Error::other)??;
        Ok(View(view))
    }

    /// Changes the view; answers when the file has the change.
    fn change(&self, change: impl FnOnce(&mut State)) -> BoxFuture<'static, Result<(), Failure>> {
        let number = {
            let mut state = self.0.state.lock();
            change(&mut state);
            state.change += 1;
            state.change
        };
        if self.0.file.is_none() {
            return futures_util::future::ready(Ok(())).boxed();
        }
        let view = self.0.clone();
        async move {
            let written = tokio::task::spawn_blocking(move || view.write(number)).await;
            written.map_err(io::Error::other).and_then(|written| written).map_err(|error| {
                Failure::new(code::FAILED, format!("the program's view of the cluster cannot be written: {error}"))
            })
        }
        .boxed()
    }
}

impl Inner {
    /// Writes the file unless it has that change already: changes that come while it is written are written together.
    fn write(&self, change: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut written = self.written.lock();
        if *written >= change {
            return Ok(());
        }
        let (text, latest) = {
            let state = self.state.lock();
            let contents = Contents { id: &self.id, servers: &state.servers, start_over: state.start_over };
            (serde_json::to_vec(&contents)?, state.change)
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut new = tempfile::Builder::new().prefix(".cluster-").tempfile_in(folder)?;
        new.write_all(&text)?;
        new.persist(file)?;
        *written = latest;
        Ok(())
    }
}

impl Application for View {
    fn add_servers(&self, servers: Vec<Info>) -> BoxFuture<'_, Result<(), Failure>> {
        let with_id = |info: Info| {
            let id = info.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
            id.map(|id| (id, Value::Object(info)))
        };
        // All or nothing: a view with half of what was asked for helps nobody.
        match servers.into_iter().map(with_id).collect::<Option<Vec<_>>>() {
            Some(servers) => self.change(|state| state.servers.extend(servers)),
            None => {
                futures_util::future::ready(Err(Failure::new(code::BAD_MESSAGE, "a server without an `id`"))).boxed()
            }
        }
    }

    fn remove_servers(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), Failure>> {
        self.change(|state| {
            for id in &ids {
                state.servers.remove(id);
            }
        })
    }

    fn replace_servers(&self, servers: Map<String, Value>) -> BoxFuture<'_, Result<(), Failure>> {
        self.change(|state| state.servers = servers)
    }

    fn servers(&self) -> Map<String, Value> {
        self.0.state.lock().servers.clone()
    }

    fn start_over(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.change(|state| state.start_over = true)
    }
}

/// Hands a type's `Application` on to its member `view`.
macro_rules! application_by_view {
    ($type:ty) => {
        impl $crate::plugin::capability::Application for $type {
            fn add_servers(&self, servers: Vec<$crate::wire::Info>) -> BoxFuture<'_, Result<(), Failure>> {
                $crate::plugin::capability::Application::add_servers(&self.view, servers)
            }

            fn remove_servers(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), Failure>> {
                $crate::plugin::capability::Application::remove_servers(&self.view, ids)
            }

            fn replace_servers(
                &self,
                servers: serde_json::Map<String, serde_json::Value>,
            ) -> BoxFuture<'_, Result<(), Failure>> {
                $crate::plugin::capability::Application::replace_servers(&self.view, servers)
            }

            fn servers(&self) -> serde_json::Map<String, serde_json::Value> {
                $crate::plugin::capability::Application::servers(&self.view)
            }

            fn start_over(&self) -> BoxFuture<'_, Result<(), Failure>> {
                $crate::plugin::capability::Application::start_over(&self.view)
            }
        }
    };
}
pub(super) use application_by_view;
