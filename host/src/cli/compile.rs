//! The compiler process, and how a host begins one: this very program, under a command that people do not see.

use std::path::PathBuf;
use std::time::Duration;

use super::arguments::CompileArgs;
use crate::plugin::compiler::service::{self, Work};
use crate::plugin::{CompileLimits, Compiler};

/// The command.
const COMMAND: &str = "__compile";
/// This program, whatever has become of its file meanwhile.
const THIS: &str = "/proc/self/exe";

/// Compiles what comes over standard input. Ends the process.
pub(super) fn run(arguments: &CompileArgs) -> ! {
    let limits = CompileLimits {
        cpu: Duration::from_secs(arguments.seconds),
        memory: usize::try_from(arguments.mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX),
        ..CompileLimits::default()
    };
    service::run(&Work { limits, cache: arguments.cache.clone() })
}

/// A process of this program as the compiler. Where its file cannot be told, the host compiles itself.
pub(super) fn compiler() -> Compiler {
    let this = PathBuf::from(THIS);
    let program = if this.exists() { Some(this) } else { std::env::current_exe().ok() };
    match program {
        Some(program) => Compiler::Process { program, arguments: vec![COMMAND.to_owned()] },
        None => {
            tracing::warn!(
                "modules are compiled in this process, without limits of time and memory: /proc is not there"
            );
            Compiler::InProcess
        }
    }
}
