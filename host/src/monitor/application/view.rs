//! The application's view of the cluster: in memory, and for a program also in a file.
//!
//! The file is JSON, `{"self": id, "servers": {id: info}, "startOver": bool}`. Each change replaces the whole file, so that a reader never sees half
//! of a change. The file gets a new inode each time: programs watch the folder, or read the file again from time to time.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Failure, code};

/// The view, and the file that has it, if there is one. Clones are the same view.
#[derive(Clone)]
pub(in crate::monitor) struct View(Arc<SharedView>);

struct SharedView {
    id: String,
    state: Mutex<ViewContents>,
    file: Option<PathBuf>,
    /// The number of the change that the file has. Locked while the file is written.
    written: Mutex<u64>,
}

/// What is in the view.
#[derive(Default)]
pub(super) struct ViewContents {
    /// From id to `info`.
    pub servers: Map<String, Value>,
    /// Whether all configured servers have started.
    pub start_over: bool,
    /// Counts changes.
    change: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ViewFile<'a> {
    #[serde(rename = "self")]
    id: &'a str,
    servers: &'a Map<String, Value>,
    start_over: bool,
}

impl View {
    /// A view in memory only.
    pub(in crate::monitor) fn in_memory(id: &str) -> Self {
        View(Arc::new(SharedView { id: id.to_owned(), state: Mutex::default(), file: None, written: Mutex::new(0) }))
    }

    /// A view in a file. The file is written, without servers, before this returns.
    pub(in crate::monitor) async fn in_file(id: &str, file: PathBuf) -> io::Result<Self> {
        let mut view =
            SharedView { id: id.to_owned(), state: Mutex::default(), file: Some(file), written: Mutex::new(0) };
        view.state.get_mut().change = 1;
        let view = Arc::new(view);
        let writer = view.clone();
        tokio::task::spawn_blocking(move || writer.write(1)).await.map_err(io::Error::other)??;
        Ok(View(view))
    }

    /// Runs `look` with the view, which stays locked meanwhile.
    pub(super) fn look<T>(&self, look: impl FnOnce(&ViewContents) -> T) -> T {
        look(&self.0.state.lock())
    }

    /// Changes the view. Returns what `change` returned, and a future that is done when the file has the change.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut ViewContents) -> T,
    ) -> (T, BoxFuture<'static, Result<(), Failure>>) {
        let (outcome, number) = {
            let mut state = self.0.state.lock();
            let outcome = change(&mut state);
            state.change += 1;
            (outcome, state.change)
        };
        if self.0.file.is_none() {
            return (outcome, futures_util::future::ready(Ok(())).boxed());
        }
        let view = self.0.clone();
        let written = async move {
            let written = tokio::task::spawn_blocking(move || view.write(number)).await;
            written.map_err(io::Error::other).and_then(|written| written).map_err(|error| {
                Failure::new(code::FAILED, format!("the program's view of the cluster cannot be written: {error}"))
            })
        };
        (outcome, written.boxed())
    }
}

impl SharedView {
    /// Writes the file unless it has that change already, because the write of a later change holds all earlier ones.
    fn write(&self, change: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut written = self.written.lock();
        if *written >= change {
            return Ok(());
        }
        let (text, latest) = {
            let state = self.state.lock();
            let contents = ViewFile { id: &self.id, servers: &state.servers, start_over: state.start_over };
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
