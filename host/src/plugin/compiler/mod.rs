//! From a component's bytes to code: by whom it is compiled, what that may cost, and where the result is kept.
//!
//! A file of some kilobytes can keep a compiler busy for minutes and take gigabytes. So a host does not compile itself: a *compiler process*, which is
//! this very program under another command, does so with limits of CPU time and memory that the system enforces, and is killed when nobody wants its
//! result any more. Shapes that are known to cost much are refused before (`bounds`).
//!
//! | file | what is there |
//! |---|---|
//! | `bounds` | what a file may consist of, read before it is compiled |
//! | `process` | the compiler process, as its host sees it |
//! | `service` | the compiler process itself |
//! | `cache` | compiled code on disk, shared by the hosts of a machine |
//! | `code` | how much compiled code a host may hold |
//!
//! A host that is a library of another program has no such command to call. It compiles in its own process, within the bounds of `bounds` alone
//! ([`Compiler::InProcess`]).

mod bounds;
mod cache;
mod code;
mod process;
pub(crate) mod service;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wasmtime::component::Component;

pub use bounds::{TooLarge, Unfit, check};
pub(super) use cache::Cache;
pub(super) use code::{Code, CodeShare};

use super::{CompileLimits, LoadError};

/// How many compiler processes a host has at the same time.
const SIDE_BY_SIDE: usize = 2;

/// Who compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// The host itself, on a thread. Nothing but the bounds limits what a file costs.
    InProcess,
    /// A process of its own: this program, with these words before the service's own arguments.
    Process {
        /// The program.
        program: PathBuf,
        /// Its first arguments, which make it the compiler's service.
        arguments: Vec<String>,
    },
}

/// What it costs to compile a file is beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Costly {
    /// CPU time.
    #[error(
        "compiling it takes more than {0} s of CPU time: make it smaller, or raise `compile_seconds` under [modules] in pomelo.toml"
    )]
    Cpu(u64),
    /// Memory.
    #[error(
        "compiling it takes more than {0} MiB of memory: make it smaller, or raise `compile_mib` under [modules] in pomelo.toml"
    )]
    Memory(u64),
    /// The code for one file.
    #[error(
        "it compiles to {bytes} bytes of code; one file has at most {most}, half of `code_mib` under [modules] in pomelo.toml"
    )]
    Code {
        /// What it would take, bytes.
        bytes: u64,
        /// What one file may take.
        most: u64,
    },
    /// The code of all files together.
    #[error(
        "it compiles to {bytes} bytes of code, and the modules of this host have {held} already, of at most {most}: remove a module, or raise \
         `code_mib` under [modules] in pomelo.toml"
    )]
    AllCode {
        /// What it would take, bytes.
        bytes: u64,
        /// What the others hold.
        held: u64,
        /// What all may hold together.
        most: u64,
    },
}

/// What an engine compiles with.
pub(super) struct Compiling {
    pub compiler: Compiler,
    pub limits: CompileLimits,
    pub cache: Option<Cache>,
    turns: Semaphore,
    pub code: Code,
    /// What has cost too much here, by key: both hosts of a master ask for the same file. Bounded by [`KNOWN`].
    costly: Mutex<VecDeque<(String, Costly)>>,
}

/// How many files that cost too much an engine knows of.
const KNOWN: usize = 64;

impl Compiling {
    pub fn new(compiler: Compiler, limits: CompileLimits, cache: Option<Cache>) -> Self {
        let code = Code::new(limits.code);
        Compiling { compiler, limits, cache, turns: Semaphore::new(SIDE_BY_SIDE), code, costly: Mutex::default() }
    }

    /// The code of a component: from the disk, or compiled anew. Ends the compiler when it is dropped.
    pub async fn component(
        &self,
        engine: &wasmtime::Engine,
        digest: &str,
        bytes: Arc<[u8]>,
    ) -> Result<(Component, CodeShare), LoadError> {
        let key = Cache::key(engine, digest);
        if let Some(cache) = &self.cache {
            let (cache, key, limits) = (cache.clone(), key.clone(), self.limits.clone());
            let known = blocking(move || match cache.read(&key) {
                Some(artifact) => Some(Ok(artifact)),
                None => cache.refusal(&key, &limits).map(Err),
            });
            match known.await? {
                Some(Ok(artifact)) => {
                    // One that another version of the runtime has left there is compiled anew.
                    if let Ok(component) = self.loaded(engine, artifact).await? {
                        return Ok(component);
                    }
                }
                Some(Err(costly)) => return Err(costly.into()),
                None => {}
            }
        }
        let artifact = match &self.compiler {
            Compiler::InProcess => {
                let (engine, cache) = (engine.clone(), self.cache.clone());
                let compile = move || {
                    check(&bytes)?;
                    let artifact = engine.precompile_component(&bytes).map_err(LoadError::Compile)?;
                    if let Some(cache) = cache {
                        cache.write(&key, &artifact);
                    }
                    Ok::<_, LoadError>(artifact)
                };
                blocking(compile).await??
            }
            Compiler::Process { program, arguments } => {
                // The engine does not close it, so that an error cannot happen.
                let _turn = self.turns.acquire().await;
                let known = self.costly.lock().iter().find(|(known, _)| *known == key).map(|(_, costly)| *costly);
                if let Some(costly) = known {
                    return Err(costly.into());
                }
                let made =
                    process::compile((program, arguments), &self.limits, (self.cache.as_ref(), &key), bytes).await;
                if let Err(LoadError::Costly(costly)) = &made {
                    self.keep_in_mind(&key, *costly).await?;
                }
                made?
            }
        };
        self.loaded(engine, artifact).await?.map_err(LoadError::Compile)
    }

    /// Keeps in mind that a file costs too much: here for as long as this runs, and on the disk for the other hosts of this machine.
    async fn keep_in_mind(&self, key: &str, costly: Costly) -> Result<(), LoadError> {
        {
            let mut known = self.costly.lock();
            if known.len() >= KNOWN {
                known.pop_front();
            }
            known.push_back((key.to_owned(), costly));
        }
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        let key = key.to_owned();
        blocking(move || cache.refuse(&key, costly)).await
    }

    /// Makes a component of what was compiled. The inner error says that it is not for this engine.
    async fn loaded(
        &self,
        engine: &wasmtime::Engine,
        artifact: Vec<u8>,
    ) -> Result<wasmtime::Result<(Component, CodeShare)>, LoadError> {
        let share = self.code.take(artifact.len())?;
        let engine = engine.clone();
        let load = move || {
            // SAFETY: `deserialize` runs what it is given as machine code, so that the bytes must be what wasmtime has made of a component, unchanged.
            // They come from one of three places. Either this process made them by `precompile_component`. Or a process of this very program
            // did and wrote them into a pipe, whose only other end it was given when this process began it (`process`). Or they come from a
            // file of the cache, which one of these two wrote: its directory and itself belong to this user and nobody else may write to
            // them, which is looked at when it is opened, and its bytes have the SHA-256 that was written with them (`cache`). Whoever acts
            // as this user could change this process anyway. That they were made by this version of wasmtime, for this machine and with
            // these settings, `deserialize` looks at itself.
            unsafe { Component::deserialize(&engine, &artifact) }
        };
        Ok(blocking(load).await?.map(|component| (component, share)))
    }
}

/// Does something on a thread that may wait.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(what).await.map_err(LoadError::Thread)
}
