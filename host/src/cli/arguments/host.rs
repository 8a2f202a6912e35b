//! Arguments of the commands that run until they are told to end: a master, monitors, the demo's server program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::secure::TlsArgs;
use crate::config::DEFAULT_ENVIRONMENT;
use crate::util::Secret;

#[derive(Subcommand)]
pub(in crate::cli) enum HostCommand {
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
        /// Listen even on an address where guessable passwords or missing tokens would let strangers in
        #[arg(long)]
        allow_exposed: bool,
    },
    /// Run the master alone; servers join it
    Master {
        #[command(flatten)]
        host: HostArgs,
        /// Listen even on an address where guessable passwords or missing tokens would let strangers in
        #[arg(long)]
        allow_exposed: bool,
    },
    /// Run the program of one server, and join the master for it
    Monitor(Box<MonitorArgs>),
    /// The demo cluster's server program
    #[command(hide = true)]
    DemoServer {
        /// Port to listen on
        #[arg(long)]
        port: u16,
    },
}

/// The compiler process of a host. A host begins it; it is not for people.
#[derive(Args)]
pub(in crate::cli) struct CompileArgs {
    /// CPU time that it may use, seconds
    #[arg(long)]
    pub seconds: u64,
    /// Memory that it may use, MiB
    #[arg(long)]
    pub mib: u64,
    /// Directory of compiled code
    #[arg(long)]
    pub cache: Option<PathBuf>,
}

/// What the commands that run a host share.
#[derive(Args, Clone)]
pub(in crate::cli) struct HostArgs {
    /// Directory of master.json, servers.json and the others; without it, a demo cluster on loopback
    #[arg(long, short = 'c')]
    pub config: Option<PathBuf>,
    /// Environment of the configuration
    #[arg(long, short = 'e', default_value = DEFAULT_ENVIRONMENT)]
    pub env: String,
    /// Directory of .wasm modules, instead of the configured one
    #[arg(long)]
    pub modules: Option<PathBuf>,
    /// Port of the master, instead of the configured one
    #[arg(long, short = 'P')]
    pub port: Option<u16>,
}

#[derive(Args, Clone)]
pub(in crate::cli) struct MonitorArgs {
    /// Server id
    #[arg(long, short = 'i')]
    pub id: String,
    /// Server type; needed for a server that the configuration does not name
    #[arg(long = "type", short = 't')]
    pub server_type: Option<String>,
    /// Directory of the configuration
    #[arg(long, short = 'c', conflicts_with = "demo")]
    pub config: Option<PathBuf>,
    /// Environment of the configuration
    #[arg(long, short = 'e', default_value = DEFAULT_ENVIRONMENT)]
    pub env: String,
    /// Use the demo cluster's configuration
    #[arg(long)]
    pub demo: bool,
    /// The master's host:port, instead of the configured one; https://HOST:PORT speaks TLS
    #[arg(long, short = 'm')]
    pub master: Option<String>,
    /// On what the master is reached, instead of the configured wire
    #[arg(long, value_enum, conflicts_with = "pomelo_master")]
    pub wire: Option<WireArg>,
    /// host:port of a master of pomelo 2.x, to join it instead of one of this program
    #[arg(long, conflicts_with = "master")]
    pub pomelo_master: Option<String>,
    /// Directory of .wasm modules, instead of the configured one
    #[arg(long)]
    pub modules: Option<PathBuf>,
    /// The token to register with, instead of adminServer.json's
    #[arg(long, env = "POMELO_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// How the program shows that it is ready, instead of the configured way
    #[arg(long, value_enum)]
    pub ready: Option<ReadyArg>,
    /// Serve /metrics and /healthz at this address, such as 127.0.0.1:0, instead of the configured one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,
    /// Log warnings and errors only, unless POMELO_LOG says otherwise
    #[arg(long, hide = true)]
    pub quiet: bool,
    /// Directory of what outlives a host, instead of the configured one
    #[arg(long, hide = true)]
    pub data: Option<PathBuf>,
    /// The texts of the configuration's files as a master has them in force, in place of the files themselves
    #[arg(long, hide = true, requires = "config")]
    pub files: Option<PathBuf>,
    /// Look at the modules' directory once a second, because the system has too few watches for many monitors
    #[arg(long, hide = true)]
    pub poll: bool,
    /// A server that was added to the configuration: its members, JSON
    #[arg(long, hide = true)]
    pub server: Option<String>,
    /// End when standard input ends
    #[arg(long, hide = true)]
    pub attached: bool,
    /// The server's program and its arguments, instead of the configured ones
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// On what a monitor reaches its master.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(in crate::cli) enum WireArg {
    /// Socket.IO over a WebSocket
    #[value(name = "socket.io")]
    SocketIo,
    /// pomelo-admin's, which costs the master less memory
    Pomelo,
}

/// How a monitor's program shows that it is ready.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(in crate::cli) enum ReadyArg {
    /// It has run for a set time
    Delay,
    /// It listens on its port
    Port,
    /// It says so over its control socket
    Control,
}
