//! The compiler process, as its host sees it: begun, fed, waited for, killed.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};

use super::Costly;
use super::cache::Cache;
use super::service::{self, COMPILES, COSTLY, READS, REFUSED};
use crate::plugin::{CompileLimits, LoadError};

/// Bytes that are kept of what the compiler says of a failure.
const SAID: u64 = 8 << 10;
/// What the standard library, the runtime and the system say when there is no memory left.
const NO_MEMORY: [&str; 3] = ["memory allocation of", "out of memory", "Cannot allocate memory"];

/// Compiles a component. When this is dropped, the process is killed.
pub(super) async fn compile(
    (program, arguments): (&PathBuf, &[String]),
    limits: &CompileLimits,
    (cache, key): (Option<&Cache>, &str),
    bytes: Arc<[u8]>,
) -> Result<Vec<u8>, LoadError> {
    let failed = |what: &str, error: &io::Error| LoadError::Compiler(format!("{what}: {error}"));
    let mut command = Command::new(program);
    command.args(arguments).args(["--seconds", &limits.seconds().to_string()]);
    command.args(["--mib", &limits.mib().to_string()]);
    if let Some(cache) = cache {
        command.arg("--cache").arg(cache.directory());
    }
    // Nothing of the host's surroundings, because there may be secrets among them.
    command.env_clear().env("RAYON_NUM_THREADS", service::threads().to_string());
    // A signal from the terminal is meant for the host, which then ends the compiler.
    command.arg0("pomelo-compiler").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = std::time::Instant::now();
    let mut child = command.spawn().map_err(|error| failed("it cannot be begun", &error))?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(LoadError::Compiler("it has no streams".into()));
    };
    // It may end before it has read everything. Its end says why.
    let feeding = async { Ok(feed(input, &bytes).await.ok()) };
    // Where it has ended, its end is waited for. Otherwise it is dropped here, and so killed.
    let reading = async {
        match read(output, limits).await {
            Ok(code) => Ok(Ok(code)),
            Err(Unread::Broken(error)) => Ok(Err(error)),
            Err(given_up) => Err(given_up),
        }
    };
    let saying = async { Ok(say(errors).await) };
    let (open, code, said) = match tokio::try_join!(feeding, reading, saying) {
        Ok(all) => all,
        Err(Unread::Beyond(costly)) => return Err(costly.into()),
        Err(Unread::Slow) => {
            let why =
                format!("it has not ended in {:?}, and not used its CPU time up: the machine is busy", limits.wall());
            return Err(LoadError::Compiler(why));
        }
        Err(Unread::Broken(error)) => return Err(failed("its code cannot be read", &error)),
    };
    // Until here, because the end of its input ends it.
    drop(open);
    let status = child.wait().await.map_err(|error| failed("it cannot be waited for", &error))?;
    tracing::debug!(key, %status, took = ?begun.elapsed(), "a compiler has ended");
    match (status.success(), code) {
        (true, Ok(code)) => Ok(code),
        (true, Err(error)) => Err(failed("its code cannot be read", &error)),
        (false, _) => Err(failure(status, said.trim(), limits)),
    }
}

/// Writes the component. The pipe is returned, because it stays open.
async fn feed(mut input: ChildStdin, bytes: &[u8]) -> io::Result<ChildStdin> {
    input.write_all(&(bytes.len() as u64).to_le_bytes()).await?;
    input.write_all(bytes).await?;
    input.flush().await?;
    Ok(input)
}

/// Why there is no code.
enum Unread {
    /// It is too large.
    Beyond(Costly),
    /// It did not come in time.
    Slow,
    /// The process has ended.
    Broken(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Unread::Broken(error)
    }
}

/// Reads the code. Its time begins when the compiler does.
async fn read(mut output: impl AsyncRead + Unpin, limits: &CompileLimits) -> Result<Vec<u8>, Unread> {
    // The compiler itself waits for others that compile the same, and no longer than this.
    let wait = limits.wall().saturating_mul(2);
    let begun = tokio::time::timeout(wait, output.read_u8()).await.map_err(|_| Unread::Slow)??;
    match begun {
        COMPILES => metrics::counter!("pomelo_modules_compiled_total").increment(1),
        READS => {}
        _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
    let reading = async {
        let length = output.read_u64_le().await?;
        let most = limits.code / 2;
        if length > most as u64 {
            return Err(Unread::Beyond(Costly::Code { bytes: length, most: most as u64 }));
        }
        let mut code = Vec::with_capacity(usize::try_from(length).unwrap_or(most));
        let read = output.take(length).read_to_end(&mut code).await?;
        if read as u64 != length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(code)
    };
    tokio::time::timeout(limits.wall(), reading).await.map_err(|_| Unread::Slow)?
}

/// What the compiler says, up to a bound.
async fn say(errors: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    let mut errors = errors.take(SAID);
    // What came before a failure is as good.
    let _ = errors.read_to_end(&mut said).await;
    // It must not wait for somebody to read the rest.
    let _ = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// What the end of a compiler means that has no code.
fn failure(status: ExitStatus, said: &str, limits: &CompileLimits) -> LoadError {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    let words = if said.is_empty() { "it says nothing" } else { said };
    match (status.code(), signal) {
        (_, Some(Signal::SIGXCPU)) => Costly::Cpu(limits.seconds()).into(),
        _ if NO_MEMORY.iter().any(|words| said.contains(words)) => Costly::Memory(limits.mib()).into(),
        // Nobody of this host has killed it: the system has no memory left, or an operator did.
        (_, Some(Signal::SIGKILL)) => {
            LoadError::Compiler("it was killed, maybe because this machine has no memory left".into())
        }
        (Some(COSTLY), _) => match serde_json::from_str::<Costly>(said) {
            Ok(costly) => costly.into(),
            Err(error) => LoadError::Compiler(format!("its answer cannot be read: {error}")),
        },
        (Some(REFUSED), _) => LoadError::Refused(words.to_owned()),
        (Some(service::UNABLE), _) => LoadError::Compiler(words.to_owned()),
        // A panic, or a stack that is too small: the file brings the compiler to that.
        _ => LoadError::Refused(format!("it does not compile: the compiler ended with {status}: {words}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_compiler_says_whose_fault_it_is() {
        let limits = CompileLimits::default();
        let after = |raw: i32, said: &str| failure(ExitStatus::from_raw(raw), said, &limits);
        assert!(matches!(after(Signal::SIGXCPU as i32, ""), LoadError::Costly(Costly::Cpu(_))));
        assert!(matches!(
            after(Signal::SIGABRT as i32, "memory allocation of 9 bytes failed"),
            LoadError::Costly(Costly::Memory(_))
        ));
        assert!(matches!(after(Signal::SIGABRT as i32, "thread has overflowed its stack"), LoadError::Refused(_)));
        assert!(matches!(after(Signal::SIGKILL as i32, ""), LoadError::Compiler(_)));
        assert!(
            matches!(after(REFUSED << 8, "it does not compile: x"), LoadError::Refused(why) if why.ends_with(": x"))
        );
        assert!(matches!(after(service::UNABLE << 8, "no"), LoadError::Compiler(_)));
        let costly = serde_json::to_string(&Costly::Memory(7)).unwrap();
        assert!(matches!(after(COSTLY << 8, &costly), LoadError::Costly(Costly::Memory(7))));
    }
}
