//! The command line. Knows everything below it and holds no logic of its own: each command reads its arguments, calls the part that does the
//! work, and prints the result.
//!
//! | file | what |
//! |---|---|
//! | `arguments/` | what the command line accepts, and the `--help` texts |
//! | `dispatch` | from a command's arguments to its function |
//! | `run` | `start`, `master`, `monitor` |
//! | `admin` | `add`, `modules`, `request`, and the connection that all such commands share |
//! | `list` | `list`, `describe` |
//! | `orders` | `stop`, `kill`, `restart`, `drain`, `undrain` |
//! | `jobs` | `jobs` |
//! | `progress` | how far a job is |
//! | `admit` | `admit` |
//! | `watch` | `events`, `logs`, `forget` |
//! | `shell/` | `shell`: the same commands and others, from a prompt or a pipe |
//! | `user` | `user add`, `remove`, `list`, `passwd` |
//! | `cert` | `cert server`, `user`, `renew`, `list` |
//! | `check`, `init` | `check`, `init` |
//! | `compile` | the compiler process of a host |
//! | `secure` | how commands reach a master over TLS |
//! | `assemble` | from a configuration to what the parts need |
//! | `everything` | whether a command means the whole cluster |
//! | `first_process` | a host as process 1 of a container |
//! | `exit` | exit codes, and the words beside them |
//! | `print` | what is printed, where the streams may be full or slow |
//! | `service_manager` | what systemd is told |
//! | `table` | tables for people |
//! | `log` | the form of the log's lines |
//! | `pipe` | how a command ends whose reader has gone |

mod admin;
mod admit;
mod arguments;
mod assemble;
mod cert;
mod check;
mod compile;
mod dispatch;
mod everything;
mod exit;
mod first_process;
mod init;
mod inspect;
mod jobs;
mod list;
mod log;
mod module;
mod orders;
mod pipe;
mod plan;
mod print;
mod progress;
mod run;
mod secure;
mod service_manager;
mod shell;
mod signals;
mod table;
mod user;
mod versions;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use self::arguments::{AdminCommand, Cli, Command, HostArgs, HostCommand, MonitorArgs, ReadyArg, WireArg};
use self::exit::Exit;

/// What is logged where neither the command nor `POMELO_LOG` says otherwise.
const LOG: &str = "info,cranelift=warn,wasmtime=warn";

/// A thread looks at sockets after so many polls. One poll may be a slice of a guest, so that the 61 of tokio's default could be a third of a second.
const POLLS: u32 = 4;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return ended(pipe::ends_quietly().and_then(|()| Ok(print::help(&help)?))),
    };
    // Before there are other threads, and without a log: what it says is for its host.
    if let Command::Compile(arguments) = &command {
        compile::run(arguments);
    }
    if matches!(command, Command::Host(_)) {
        if first_process::is_first() {
            let run = first_process::run();
            return run.unwrap_or_else(|error| ended(Err(anyhow::Error::new(error).context("as process 1"))));
        }
        // A host goes on without a reader of its output, and also while its reader does not read.
        print::as_host();
    } else if let Err(error) = pipe::ends_quietly() {
        return ended(Err(error));
    }
    let (filter, server) = match &command {
        Command::Host(HostCommand::Monitor(monitor)) => {
            (if monitor.quiet { "warn" } else { LOG }, Some(monitor.id.clone()))
        }
        // A log would stand between prompt and answers.
        Command::Admin(AdminCommand::Shell { .. }) => ("error", None),
        _ => (LOG, None),
    };
    log::init(EnvFilter::try_from_env("POMELO_LOG").unwrap_or_else(|_| EnvFilter::new(filter)), server);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().event_interval(POLLS).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return ended(Err(anyhow::Error::new(error).context("the program's threads cannot be started")));
        }
    };
    let outcome = runtime.block_on(dispatch::dispatch(command));
    // What still runs in other threads, such as a call into a module, is not waited for.
    runtime.shutdown_background();
    ended(outcome)
}

/// Says what went wrong, and with which code the program ends.
fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The code says it too, where nobody reads the words.
            exit::tell("pomelo: ", &error);
            ExitCode::from(exit::code(&error))
        }
    };
    print::flush();
    code
}
