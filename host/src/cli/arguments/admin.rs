//! Arguments of the commands that ask a running master.

use clap::{Args, Subcommand};

/// Lines of a server's output that `logs` begins with, where nothing else is asked for.
pub(in crate::cli) const LOG_LINES: u32 = 100;

#[derive(Subcommand)]
pub(in crate::cli) enum AdminCommand {
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
    /// Stop servers until they are restarted
    Stop {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        ids: Vec<String>,
        /// All servers, and the master
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Kill servers without asking them to end
    Kill {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        ids: Vec<String>,
        /// All servers, and the master
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Restart servers, or start those that are down
    Restart {
        #[command(flatten)]
        admin: AdminArgs,
        /// Restart the servers of this type
        #[arg(long = "type", short = 't', conflicts_with = "ids")]
        server_type: Option<String>,
        /// Server ids
        ids: Vec<String>,
        /// All servers that run
        #[arg(long, conflicts_with_all = ["ids", "server_type"])]
        all: bool,
    },
    /// Let unknown servers of pomelo 2.x reconnect; without an id, show those that wait
    Admit {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        ids: Vec<String>,
        /// Let every such server reconnect
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// For how many seconds; a server that waits tries again at least once a minute
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
        /// Keep printing new events
        #[arg(long, short = 'f')]
        follow: bool,
        /// Show only events with a higher number than this
        #[arg(long, default_value_t = 0)]
        since: u64,
    },
    /// Show what a server's program writes
    Logs {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server id
        id: String,
        /// Keep printing new lines
        #[arg(long, short = 'f')]
        follow: bool,
        /// How many of the last lines to begin with
        #[arg(long, short = 'n', default_value_t = LOG_LINES)]
        lines: u32,
    },
    /// Remove servers that are retained after a mass loss; without an id, all of these
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
    /// Run commands from a prompt or a pipe
    Shell {
        #[command(flatten)]
        admin: AdminArgs,
        /// Answer the questions of the shell with yes
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

/// What the commands that ask a master share.
#[derive(Args, Clone)]
pub(in crate::cli) struct AdminArgs {
    /// Host of the master
    #[arg(long, short = 'H', env = "POMELO_HOST", default_value = "127.0.0.1", global = true)]
    pub host: String,
    /// Port of the master
    #[arg(long, short = 'P', env = "POMELO_PORT", default_value = "3005", value_parser = port, global = true)]
    pub port: u16,
    /// User name
    #[arg(long, short = 'u', env = "POMELO_USERNAME", default_value = "admin", global = true)]
    pub username: String,
    /// Password; safer in the environment, because `ps` shows arguments
    #[arg(long, short = 'p', env = "POMELO_PASSWORD", hide_env_values = true, default_value = "admin", global = true)]
    #[arg(hide_default_value = true)]
    pub password: String,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    pub timeout: u64,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// A port; also of an address `tcp://HOST:PORT`, because Kubernetes puts that into `POMELO_PORT` where a service is named `pomelo`.
fn port(text: &str) -> Result<u16, String> {
    let number =
        text.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':')).map_or(text, |(_, port)| port);
    number.parse().ok().filter(|port| *port > 0).ok_or_else(|| "a port is a number from 1 to 65535".to_owned())
}

#[derive(Subcommand, Clone)]
pub(in crate::cli) enum ModulesAction {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_also_read_out_of_what_kubernetes_says() {
        assert_eq!(port("3005"), Ok(3005));
        assert_eq!(port("tcp://10.0.0.1:3006"), Ok(3006));
        for wrong in ["", "0", "65536", "tcp://10.0.0.1", "http://10.0.0.1:80", "x"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
