//! The compiler process itself: it reads a component, compiles it under limits that it sets itself, and writes the code.
//!
//! | stream | what goes over it |
//! |---|---|
//! | standard input | the component: its length, eight bytes, the lowest first, and the bytes. It stays open, and its end says that nobody wants the code any more |
//! | standard output | as soon as nobody else compiles the same component `c`, if this process compiles it, or `r`, if another has and it was read from the disk; and then the code in the same form as the component |
//! | standard error | why it cannot be compiled |
//!
//! Of several processes on one machine that are to compile the same component one does so, and the others wait and read what it has left on the disk.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::exit;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use sha2::{Digest, Sha256};

use super::Unfit;
use super::cache::Cache;
use crate::plugin::{CompileLimits, engine};

/// The file cannot be compiled; standard error says why.
pub const REFUSED: i32 = 1;
/// This process could not do its work, whatever the file is.
pub const UNABLE: i32 = 3;
/// The file took more than a limit allows when another process compiled it.
pub const COSTLY: i32 = 4;
/// What standard output begins with when this process compiles.
pub const COMPILES: u8 = b'c';
/// What it begins with when the code is read from the disk, because another process has compiled it meanwhile.
pub const READS: u8 = b'r';

/// How much less this process counts than others when CPU time is scarce, in the system's unit.
const NICE: i32 = 10;
/// Threads of a compiler, if there are as many cores.
const THREADS: usize = 4;
/// Why there is no use in code.
const NOBODY: &str = "its host does not listen";
/// How readily the system ends this process when it has no memory left: before all others.
const FIRST_TO_GO: &str = "1000";

/// What the compiler process is to do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Limits that this process sets itself.
    pub limits: CompileLimits,
    /// The directory of compiled code.
    pub cache: Option<PathBuf>,
}

/// Compiles what comes over standard input. Call it before there is a second thread.
pub fn run(work: &Work) -> ! {
    let code = match serve(work) {
        Ok(()) => 0,
        Err(Failed { code, why }) => {
            // Whoever reads it may have gone.
            let _ = writeln!(io::stderr(), "{why}");
            code
        }
    };
    exit(code)
}

struct Failed {
    code: i32,
    why: String,
}

fn unable(what: &str) -> impl FnOnce(io::Error) -> Failed {
    let what = what.to_owned();
    move |error| Failed { code: UNABLE, why: format!("{what}: {error}") }
}

fn serve(work: &Work) -> Result<(), Failed> {
    limit(&work.limits).map_err(unable("its limits cannot be set"))?;
    let bytes = component().map_err(unable("the component cannot be read"))?;
    thread::spawn(|| {
        // The host writes nothing more. When it closes the pipe, or has ended, nobody is left to read the code.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        exit(UNABLE)
    });
    let engine = wasmtime::Engine::new(&engine::code())
        .map_err(|error| Failed { code: UNABLE, why: format!("the compiler cannot be set up: {error:#}") })?;
    let key = Cache::key(&engine, &hex::encode(Sha256::digest(&bytes)));
    // Without its directory it compiles all the same.
    let cache = work.cache.as_deref().and_then(|directory| Cache::open(directory).ok());
    let lock = cache.as_ref().and_then(|cache| lock(cache, &key, work.limits.wall()));
    let mut output = io::stdout().lock();
    let mut tell = |begun| output.write_all(&[begun]).and_then(|()| output.flush()).map_err(unable(NOBODY));
    let code = match cache.as_ref().and_then(|cache| cache.read(&key)) {
        Some(code) => {
            tell(READS)?;
            code
        }
        None => {
            if let Some(costly) = cache.as_ref().and_then(|cache| cache.refusal(&key, &work.limits)) {
                let why = serde_json::to_string(&costly).unwrap_or_default();
                return Err(Failed { code: COSTLY, why });
            }
            tell(COMPILES)?;
            let code = compile(&engine, &bytes)?;
            if let Some(cache) = &cache {
                cache.write(&key, &code);
            }
            code
        }
    };
    // The host may be slow to read, and those that wait for the lock have nothing to do with that.
    if let (Some(cache), Some(lock)) = (&cache, lock) {
        cache.unlock(&key, lock);
    }
    let length = (code.len() as u64).to_le_bytes();
    let sent = output.write_all(&length).and_then(|()| output.write_all(&code)).and_then(|()| output.flush());
    sent.map_err(unable(NOBODY))
}

/// Limits this process for the rest of its life.
fn limit(limits: &CompileLimits) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CPU, limits.seconds(), limits.seconds().saturating_add(1))?;
    let memory = limits.memory as u64;
    setrlimit(Resource::RLIMIT_DATA, memory, memory)?;
    // The rest makes it a good neighbour. It is as limited without.
    let _ = rustix::process::nice(NICE);
    let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
    Ok(())
}

fn component() -> io::Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    let read = input.take(length).read_to_end(&mut bytes)?;
    if read as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Waits until nobody else compiles the component, at most for a time: a process that was stopped must not hold up others.
fn lock(cache: &Cache, key: &str, at_most: Duration) -> Option<std::fs::File> {
    let (send, taken) = mpsc::channel();
    let (cache, key) = (cache.clone(), key.to_owned());
    thread::spawn(move || {
        // Nobody takes it who has waited for too long. It is dropped then.
        let _ = send.send(cache.lock(&key));
    });
    taken.recv_timeout(at_most).ok()?.ok()
}

fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, Failed> {
    let refused = |why: String| Failed { code: REFUSED, why };
    super::check(bytes).map_err(|error| match error {
        Unfit::Thread(_) => Failed { code: UNABLE, why: error.to_string() },
        _ => refused(error.to_string()),
    })?;
    engine.precompile_component(bytes).map_err(|error| refused(format!("it does not compile: {error:#}")))
}

/// How many threads a compiler has.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}
