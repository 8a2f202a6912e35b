//! The command line. Knows everything below it and holds no logic of its own: each command reads its arguments, calls the part that does the
//! work, and says what came of it.
//!
//! | file | commands |
//! |---|---|
//! | `run` | `start`, `master`, `monitor` |
//! | `admin` | `list`, `add`, `stop`, `kill`, `restart`, `modules`, `request` |
//! | `shell/` | `shell`: the same commands and others, one after another |
//! | `user` | `user add`, `remove`, `list`, `passwd` |
//! | `check`, `init` | `check`, `init` |
//! | `admit` | `admit` |
//! | `assemble` | from a configuration to what the parts need |
//! | `watch` | `events`, `logs`, `forget` |
//! | `table` | tables for people |
//! | `log` | whose line of the log it is |
//! | `pipe` | output that nobody reads |

mod admin;
mod admit;
mod assemble;
mod check;
mod init;
mod log;
mod pipe;
mod run;
mod shell;
mod table;
mod user;
mod watch;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::admin::once;
use crate::client::ClientError;
use crate::config::{ConfigErrors, DEFAULT_ENVIRONMENT, EditError};
use crate::monitor::GIVEN_UP;

const AFTER_HELP: &str = "\
Without a configuration `pomelo start` runs a demo cluster.

Exit codes:
  0  done
  1  the cluster says no
  2  wrong arguments or configuration
  3  no master can be reached
  4  the master refuses the user
  5  no answer in time
  6  a monitor's program has ended, and `restart` does not bring it back

POMELO_LOG sets what is logged: error, warn, info, debug, trace, or tracing's filters.
POMELO_LOG=info,pomelo::call=debug shows every call of a handler.
POMELO_LOG_FORMAT=json logs a JSON object a line.
POMELO_CACHE is where compiled modules are kept; empty: nowhere.";

/// Runs and administers clusters of servers; admin modules are WebAssembly components.
#[derive(Parser)]
#[command(name = "pomelo", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the master and all servers; or, with --type or --id, servers that join it
    Start {
        #[command(flatten)]
        host: HostArgs,
        /// Start only the servers of this type
        #[arg(long = "type", short = 't', conflicts_with = "id")]
        server_type: Option<String>,
        /// Start only this server
        #[arg(long, short = 'i')]
        id: Option<String>,
        /// Listen even where passwords or the lack of tokens would let strangers in
        #[arg(long)]
        allow_exposed: bool,
    },
    /// Run the master alone; servers join it
    Master {
        #[command(flatten)]
        host: HostArgs,
        /// Listen even where passwords or the lack of tokens would let strangers in
        #[arg(long)]
        allow_exposed: bool,
    },
    /// Stand beside one server: run its program, and join the master
    Monitor(MonitorArgs),
    /// Show the servers
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Add servers of a configured type to the running cluster
    Add {
        #[command(flatten)]
        admin: AdminArgs,
        /// id=, serverType=, host=, port= and other members of a server; clusterCount=N makes N servers, and ports that end in ++ count up
        #[arg(required = true, value_name = "KEY=VALUE")]
        args: Vec<String>,
    },
    /// Stop servers for good; without an id all of them, and the master
    Stop {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        ids: Vec<String>,
    },
    /// Kill servers without asking them; without an id all of them, and the master
    Kill {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids; none for all
        ids: Vec<String>,
    },
    /// Restart servers; without an id or a type all of them
    Restart {
        #[command(flatten)]
        admin: AdminArgs,
        /// Restart the servers of this type
        #[arg(long = "type", short = 't', conflicts_with = "ids")]
        server_type: Option<String>,
        /// Server ids
        ids: Vec<String>,
    },
    /// Let servers of pomelo 2.x come back that are not known; without an id, show who waits
    Admit {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        ids: Vec<String>,
        /// All that come
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// For how long, in seconds; they try again every minute at most
        #[arg(long = "for", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
    /// Show the master's modules, enable or disable one
    Modules {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(subcommand)]
        action: Option<ModulesAction>,
    },
    /// Show what has happened: joins, exits, restarts, reloads, refusals, alarms
    Events {
        #[command(flatten)]
        admin: AdminArgs,
        /// Go on with what happens from now on
        #[arg(long, short = 'f')]
        follow: bool,
        /// Only events after this number
        #[arg(long, default_value_t = 0)]
        since: u64,
    },
    /// Show what a server's program writes
    Logs {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server id
        id: String,
        /// Go on with what it writes from now on
        #[arg(long, short = 'f')]
        follow: bool,
        /// The last lines to begin with
        #[arg(long, short = 'n', default_value_t = watch::LINES)]
        lines: u32,
    },
    /// Remove servers that vanished with many others and are kept; without an id all of them
    Forget {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        ids: Vec<String>,
    },
    /// Ask a module of the master
    Request {
        #[command(flatten)]
        admin: AdminArgs,
        /// Module id
        module: String,
        /// The message, JSON
        #[arg(default_value = "null")]
        message: String,
    },
    /// Type commands, or pipe them in
    Shell {
        #[command(flatten)]
        admin: AdminArgs,
        /// Do what is asked without asking back
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Say who may log in: add, remove and list users, change passwords
    User(user::UserArgs),
    /// Report every fault of a configuration at once, and what should be looked at
    Check(check::CheckArgs),
    /// Write a working configuration with secrets of its own
    Init(init::InitArgs),
    /// The demo cluster's server program
    #[command(hide = true)]
    DemoServer {
        /// Port to listen on
        #[arg(long)]
        port: u16,
    },
}

impl Command {
    /// Whether it runs until it is told to end, whoever reads its output.
    fn is_host(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Master { .. } | Self::Monitor(_) | Self::DemoServer { .. })
    }
}

/// What the commands that run a host share.
#[derive(Args, Clone)]
struct HostArgs {
    /// Directory of master.json, servers.json and the others; without it, a demo cluster on loopback
    #[arg(long, short = 'c')]
    config: Option<PathBuf>,
    /// Environment of the configuration
    #[arg(long, short = 'e', default_value = DEFAULT_ENVIRONMENT)]
    env: String,
    /// Directory of .wasm modules, instead of the configured one
    #[arg(long)]
    modules: Option<PathBuf>,
    /// Port of the master, instead of the configured one
    #[arg(long, short = 'P')]
    port: Option<u16>,
}

#[derive(Args, Clone)]
struct MonitorArgs {
    /// Server id
    #[arg(long, short = 'i')]
    id: String,
    /// Server type; needed where the configuration does not name the server
    #[arg(long = "type", short = 't')]
    server_type: Option<String>,
    /// Directory of the configuration
    #[arg(long, short = 'c', conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Environment of the configuration
    #[arg(long, short = 'e', default_value = DEFAULT_ENVIRONMENT)]
    env: String,
    /// Take the demo cluster's configuration
    #[arg(long)]
    demo: bool,
    /// The master's host:port, instead of the configured one
    #[arg(long, short = 'm')]
    master: Option<String>,
    /// host:port of an original master of pomelo 2.x to join, instead of one of this program
    #[arg(long, conflicts_with = "master")]
    pomelo_master: Option<String>,
    /// Directory of .wasm modules, instead of the configured one
    #[arg(long)]
    modules: Option<PathBuf>,
    /// The token to register with, instead of adminServer.json's
    #[arg(long, env = "POMELO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What says that the program is ready, instead of what is configured
    #[arg(long, value_enum)]
    ready: Option<ReadyArg>,
    /// Serve /metrics and /healthz at this address, such as 127.0.0.1:0, instead of the configured one
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Log trouble only, unless POMELO_LOG says otherwise
    #[arg(long, hide = true)]
    quiet: bool,
    /// A server that was added to the configuration: its members, JSON
    #[arg(long, hide = true)]
    server: Option<String>,
    /// End when standard input does
    #[arg(long, hide = true)]
    attached: bool,
    /// The server's program and its arguments, instead of the configured ones
    #[arg(last = true)]
    command: Vec<String>,
}

/// What says that a monitor's program is ready.
#[derive(Clone, Copy, clap::ValueEnum)]
enum ReadyArg {
    /// It has run for a while
    Delay,
    /// Somebody listens on its port
    Port,
    /// It says so over its control socket
    Control,
}

/// What the commands that ask a master share.
#[derive(Args, Clone)]
struct AdminArgs {
    /// Host of the master
    #[arg(long, short = 'H', default_value = "127.0.0.1", global = true)]
    host: String,
    /// Port of the master
    #[arg(long, short = 'P', default_value_t = 3005, global = true)]
    port: u16,
    /// User name
    #[arg(long, short = 'u', default_value = "admin", global = true)]
    username: String,
    /// Password; better in the environment, where `ps` does not show it
    #[arg(long, short = 'p', env = "POMELO_PASSWORD", hide_env_values = true, default_value = "admin", global = true)]
    #[arg(hide_default_value = true)]
    password: String,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    timeout: u64,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Clone)]
enum ModulesAction {
    /// Show the modules
    List,
    /// Enable a module on all hosts
    Enable {
        /// Module id
        id: String,
    },
    /// Disable a module on all hosts
    Disable {
        /// Module id
        id: String,
    },
}

/// Why the program ends with a code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// The cluster did not do all that was asked of it.
    fn failed(message: impl Into<String>) -> anyhow::Error {
        Exit { code: 1, message: message.into() }.into()
    }

    /// A monitor's program stays down by its policy: not to be tried again.
    fn given_up(message: impl Into<String>) -> anyhow::Error {
        Exit { code: GIVEN_UP, message: message.into() }.into()
    }

    /// The arguments make no sense together.
    fn usage(message: impl Into<String>) -> anyhow::Error {
        Exit { code: 2, message: message.into() }.into()
    }
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !cli.command.is_host()
        && let Err(error) = pipe::ends_quietly()
    {
        eprintln!("pomelo: {error:#}");
        return ExitCode::from(1);
    }
    let filter = match &cli.command {
        Command::Monitor(arguments) if arguments.quiet => "warn",
        // A log between prompt and answers would only be in the way.
        Command::Shell { .. } => "error",
        _ => "info,cranelift=warn,wasmtime=warn",
    };
    let filter = EnvFilter::try_from_env("POMELO_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    let server = match &cli.command {
        Command::Monitor(arguments) => Some(arguments.id.clone()),
        _ => None,
    };
    log::init(filter, server);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pomelo: the program's threads cannot be started: {error}");
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    // Nothing waits for a call into a module or a look at a file any more.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The code says it too, where nobody reads the words.
            let _ = writeln!(io::stderr(), "pomelo: {}", told(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// What is said of an error. A client's says itself what caused it.
fn told(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ClientError>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return exit.code;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Connect { .. } | ClientError::Disconnected { .. }) => 3,
        Some(ClientError::Refused { .. }) => 4,
        Some(ClientError::Timeout { .. }) => 5,
        Some(ClientError::Failed(_) | ClientError::Body(_)) => 1,
        None if error.is::<ConfigErrors>() || error.is::<EditError>() => 2,
        None => 1,
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Start { host, server_type, id, allow_exposed } => {
            run::start(host, server_type, id, allow_exposed).await
        }
        Command::Master { host, allow_exposed } => run::master(host, allow_exposed).await,
        Command::Monitor(arguments) => run::monitor(arguments).await,
        Command::List { admin } => once(admin, admin::list).await,
        Command::Add { admin, args } => once(admin, async |session| admin::add(session, args).await).await,
        Command::Stop { admin, ids } => once(admin, async |session| admin::stop(session, ids).await).await,
        Command::Kill { admin, ids } => once(admin, async |session| admin::kill(session, ids).await).await,
        Command::Restart { admin, server_type, ids } => {
            once(admin, async |session| admin::restart(session, server_type, ids).await).await
        }
        Command::Admit { admin, ids, all, seconds } => {
            once(admin, async |session| admit::admit(session, ids, all, seconds).await).await
        }
        Command::Modules { admin, action } => {
            let action = action.unwrap_or(ModulesAction::List);
            once(admin, async |session| admin::modules(session, action).await).await
        }
        Command::Events { admin, follow, since } => watch::events(admin, follow, since).await,
        Command::Logs { admin, id, follow, lines } => watch::logs(admin, &id, follow, lines).await,
        Command::Forget { admin, ids } => once(admin, async |session| watch::forget(session, ids).await).await,
        Command::Request { admin, module, message } => {
            let message = admin::message(&message)?;
            once(admin, async |session| admin::request(session, &module, &message).await).await
        }
        Command::Shell { admin, yes } => shell::run(admin, yes).await,
        Command::User(arguments) => user::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::DemoServer { port } => Ok(crate::demo::server(port).await?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
