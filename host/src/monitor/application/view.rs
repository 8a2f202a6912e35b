//! The application's view of the cluster: in memory, and for a program also in a file.
//!
//! The file is JSON, `{"self": id, "servers": {id: info}, "startOver": bool}`. Each change replaces the whole file, so that a reader never sees half
//! of a change. The file gets a new inode each time: programs watch the folder, or read the file again from time to time.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Failure, code};
use crate::journal::{Journal, at};

/// How often a file is tried again that the disk does not take.
const RETRY: Duration = Duration::from_secs(1);

/// The view, and the file that has it, if there is one. Clones are the same view.
#[derive(Clone)]
pub(in crate::monitor) struct View(Arc<SharedView>);

struct SharedView {
    id: String,
    state: Mutex<ViewContents>,
    file: Option<PathBuf>,
    /// The number of the change that the file has. Locked while the file is written.
    written: Mutex<u64>,
    /// Whether the disk does not take the file, so that it is tried again.
    retrying: AtomicBool,
    /// Where that is told.
    journal: Journal,
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
        View(Arc::new(SharedView::new(id, None, Journal::default())))
    }

    /// A view in a file. The file is written, without servers, before this returns. `journal` is told when the disk does not take a change, and when it does
    /// again: the file is tried once a second until then, because no further change may come.
    pub(in crate::monitor) async fn in_file(id: &str, file: PathBuf, journal: Journal) -> io::Result<Self> {
        let mut view = SharedView::new(id, Some(file), journal);
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
            let writer = view.clone();
            let written = tokio::task::spawn_blocking(move || writer.write(number)).await;
            if let Ok(Err(_)) = &written {
                view.try_again();
            }
            written.map_err(io::Error::other).and_then(|written| written).map_err(|error| {
                Failure::new(code::FAILED, format!("the program's view of the cluster cannot be written: {error}"))
            })
        };
        (outcome, written.boxed())
    }
}

impl SharedView {
    fn new(id: &str, file: Option<PathBuf>, journal: Journal) -> Self {
        SharedView {
            id: id.to_owned(),
            state: Mutex::default(),
            file,
            written: Mutex::new(0),
            retrying: AtomicBool::new(false),
            journal,
        }
    }

    /// Writes the file once a second until the disk has taken it.
    fn try_again(self: &Arc<Self>) {
        if self.retrying.swap(true, Ordering::AcqRel) {
            return;
        }
        let view = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                let Some(view) = view.upgrade() else { return };
                let newest = view.state.lock().change;
                let written = tokio::task::spawn_blocking(move || {
                    let written = view.write(newest);
                    // Under no lock: a change that fails right now begins anew.
                    if written.is_ok() {
                        view.retrying.store(false, Ordering::Release);
                    }
                    written
                });
                if let Ok(Ok(())) = written.await {
                    return;
                }
            }
        });
    }

    /// Writes the file as [`SharedView::put`] does, and tells whether the disk takes it.
    fn write(&self, change: u64) -> io::Result<()> {
        let written = self.put(change);
        let file = || self.file.as_deref().unwrap_or(Path::new("")).display();
        match &written {
            Ok(()) => {
                let over = format!("the view of the cluster is written again to {}", file());
                self.journal.fault_over(at::VIEW, Some(&self.id), &over);
            }
            Err(error) => {
                let message = format!("the view of the cluster cannot be written to {}: {error}", file());
                self.journal.fault(at::VIEW, Some(&self.id), message);
            }
        }
        written
    }

    /// Writes the file unless it has that change already, because the write of a later change holds all earlier ones.
    fn put(&self, change: u64) -> io::Result<()> {
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
