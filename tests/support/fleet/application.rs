//! The application beside a monitor.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use pomelo_host::failure::Failure;
use pomelo_host::plugin::capability::{Application, Process, Stats};
use pomelo_host::wire::Info;
use serde_json::{Map, Value};

use super::figures::stats;

/// An application that keeps its view in memory, and a process of fixed figures.
pub struct MemoryApplication {
    pid: u32,
    view: Mutex<View>,
    added: AtomicUsize,
    removed: AtomicUsize,
    replaced: AtomicUsize,
    started_over: AtomicUsize,
}

/// From server id to what the server says of itself, JSON. Views of a thousand servers, a thousand times, share their texts.
pub type View = BTreeMap<Arc<str>, Arc<str>>;

/// The text itself, or an equal one that is there already: equal texts are kept once.
fn shared(text: &str) -> Arc<str> {
    static TEXTS: Mutex<Option<HashSet<Arc<str>>>> = Mutex::new(None);
    let mut texts = TEXTS.lock();
    let texts = texts.get_or_insert_default();
    if let Some(known) = texts.get(text) {
        return known.clone();
    }
    let text: Arc<str> = text.into();
    texts.insert(text.clone());
    text
}

/// A server as a view has it.
pub fn seen(id: &str, info: &Info) -> (Arc<str>, Arc<str>) {
    (shared(id), shared(&serde_json::to_string(info).expect("JSON")))
}

/// How often an application was told something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub added: usize,
    pub removed: usize,
    pub replaced: usize,
    pub started_over: usize,
}

impl Counts {
    /// How often the view was changed.
    pub fn changes(&self) -> usize {
        self.added + self.removed + self.replaced
    }
}

impl MemoryApplication {
    pub fn new(pid: u32) -> Self {
        MemoryApplication {
            pid,
            view: Mutex::default(),
            added: AtomicUsize::default(),
            removed: AtomicUsize::default(),
            replaced: AtomicUsize::default(),
            started_over: AtomicUsize::default(),
        }
    }

    /// Looks at the view.
    pub fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.lock())
    }

    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Counts {
            added: read(&self.added),
            removed: read(&self.removed),
            replaced: read(&self.replaced),
            started_over: read(&self.started_over),
        }
    }

    fn change(&self, count: &AtomicUsize, change: impl FnOnce(&mut View)) -> BoxFuture<'_, Outcome> {
        change(&mut self.view.lock());
        count.fetch_add(1, Ordering::Relaxed);
        ready(Ok(())).boxed()
    }
}

type Outcome = Result<(), Failure>;

impl Application for MemoryApplication {
    fn add_servers(&self, servers: Vec<Info>) -> BoxFuture<'_, Outcome> {
        self.change(&self.added, |view| {
            for info in servers {
                view.extend([seen(info.get("id").and_then(Value::as_str).unwrap_or_default(), &info)]);
            }
        })
    }

    fn remove_servers(&self, ids: Vec<String>) -> BoxFuture<'_, Outcome> {
        self.change(&self.removed, |view| view.retain(|id, _| !ids.iter().any(|gone| **gone == **id)))
    }

    fn replace_servers(&self, servers: Map<String, Value>) -> BoxFuture<'_, Outcome> {
        let servers = servers.iter().filter_map(|(id, info)| Some(seen(id, info.as_object()?)));
        self.change(&self.replaced, |view| *view = servers.collect())
    }

    fn servers(&self) -> Map<String, Value> {
        let view = self.view.lock();
        let parsed = |(id, info): (&Arc<str>, &Arc<str>)| Some((id.to_string(), serde_json::from_str(info).ok()?));
        view.iter().filter_map(parsed).collect()
    }

    fn start_over(&self) -> BoxFuture<'_, Outcome> {
        self.change(&self.started_over, |_| {})
    }
}

impl Process for MemoryApplication {
    fn stats(&self) -> Result<Stats, Failure> {
        Ok(stats(self.pid))
    }

    fn stop(&self) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn kill(&self) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn restart(&self) -> BoxFuture<'_, Result<u32, Failure>> {
        ready(Ok(self.pid)).boxed()
    }
}
