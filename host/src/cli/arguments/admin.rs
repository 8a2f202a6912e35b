//! Arguments of the commands that ask a running master.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::secure::TlsArgs;
use crate::config::DEFAULT_ENVIRONMENT;
use crate::fleet::State;
use crate::fleet::job::Amount;
use crate::util::Secret;

/// Lines of a server's output that `logs` begins with, where nothing else is asked for.
pub(in crate::cli) const LOG_LINES: u32 = 100;

#[derive(Subcommand)]
pub(in crate::cli) enum AdminCommand {
    /// Show the servers, also those that do not run
    List {
        #[command(flatten)]
        admin: AdminArgs,
        /// Show the servers of this type
        #[arg(long = "type", short = 't')]
        server_type: Option<String>,
        /// Show the servers in this state, such as running or failed
        #[arg(long, value_parser = state)]
        state: Option<String>,
        /// Show them again whenever something has changed
        #[arg(long, short = 'w')]
        watch: bool,
    },
    /// Add servers of a configured type to the running cluster
    Add {
        #[command(flatten)]
        admin: AdminArgs,
        /// id=, serverType=, host=, port= and other members of a server; clusterCount=N makes N servers, and ports that end in ++ count up
        #[arg(required = true, value_name = "KEY=VALUE")]
        args: Vec<String>,
    },
    /// Show all that is known of a server
    Describe {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server id
        id: String,
    },
    /// Stop servers until they are restarted
    Stop {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        targets: Targets,
        #[command(flatten)]
        following: Following,
    },
    /// Kill servers without asking them to end
    Kill {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        targets: Targets,
        #[command(flatten)]
        following: Following,
    },
    /// Restart servers, or start those that are down
    Restart {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        targets: Targets,
        #[command(flatten)]
        rolling: Rolling,
        #[command(flatten)]
        following: Following,
    },
    /// Let servers leave the views and end when their connections have; they stay down
    Drain {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        targets: Targets,
        #[command(flatten)]
        following: Following,
    },
    /// Put servers back that drain
    Undrain {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Show the jobs of the fleet, or one of them
    Jobs {
        #[command(flatten)]
        admin: AdminArgs,
        /// Number of a job
        job: Option<u64>,
        /// Show how far the job is, until it is over
        #[arg(long, short = 'f', requires = "job")]
        follow: bool,
        /// Cancel the job: what was not begun is not done
        #[arg(long, requires = "job", conflicts_with_all = ["follow", "resume"])]
        cancel: bool,
        /// Let the job go on that has paused because a server failed
        #[arg(long, requires = "job", conflicts_with = "follow")]
        resume: bool,
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
    /// Show how the files of the configuration differ from what runs
    Plan {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Take the files of the configuration over: settings at once, servers by a rolling restart
    ///
    /// Servers that are new are started, those that have changed restart one after another with their drain, those that are gone drain and end.
    Apply {
        #[command(flatten)]
        admin: AdminArgs,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
        #[command(flatten)]
        pace: Pace,
        #[command(flatten)]
        following: Following,
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
    /// Show what servers' programs write, also of servers that are down
    Logs {
        #[command(flatten)]
        admin: AdminArgs,
        /// Server ids
        #[arg(required_unless_present = "server_type")]
        ids: Vec<String>,
        /// Show the lines of the servers of this type
        #[arg(long = "type", short = 't', conflicts_with = "ids")]
        server_type: Option<String>,
        /// Keep printing new lines
        #[arg(long, short = 'f')]
        follow: bool,
        /// How many of the last lines to begin with [default: 100, or all since a time]
        #[arg(long, short = 'n')]
        lines: Option<u32>,
        /// Show only lines since then: 30s, 10m, 2h, 1d, or a time such as 2026-01-31T12:00:00Z
        #[arg(long, value_parser = since)]
        since: Option<u64>,
        /// Show only lines that match this regular expression
        #[arg(long)]
        grep: Option<String>,
        /// Print lines as the programs have written them, with colours and all else that may steer a terminal
        #[arg(long)]
        raw: bool,
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

/// Which servers an order is about.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct Targets {
    /// Server ids
    pub ids: Vec<String>,
    /// The servers of this type
    #[arg(long = "type", short = 't', conflicts_with = "ids")]
    pub server_type: Option<String>,
    /// All servers; for `stop` and `kill` the master too
    #[arg(long, conflicts_with_all = ["ids", "server_type"])]
    pub all: bool,
}

/// How long an order is followed.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct Following {
    /// Wait for servers that another job owns, instead of being refused
    #[arg(long)]
    pub queue: bool,
    /// Do not wait until it is done: print the number of the job
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
    /// Seconds to wait until it is done [default: as long as it takes]
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

/// How servers are restarted.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct Rolling {
    /// Restart them one after another
    #[arg(long)]
    pub rolling: bool,
    #[command(flatten)]
    pub pace: Pace,
    /// Let each server drain before it ends
    #[arg(long)]
    pub drain: bool,
}

/// How servers go one after another.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct Pace {
    /// How many servers of a type may be away at a time: a number, or a share such as 25% [default: 1]
    #[arg(long, value_name = "N|P%", value_parser = Amount::parse)]
    pub max_unavailable: Option<Amount>,
    /// Seconds for which a server must have been ready before the next one goes
    #[arg(long, value_name = "SECONDS")]
    pub min_ready: Option<u64>,
    /// Pause where a server fails, which is the default
    #[arg(long)]
    pub pause_on_failure: bool,
    /// Go on where a server fails
    #[arg(long = "continue", conflicts_with = "pause_on_failure")]
    pub go_on: bool,
}

/// A state of a server.
fn state(text: &str) -> Result<String, String> {
    let words = State::ALL.map(State::as_str);
    if words.contains(&text) { Ok(text.to_owned()) } else { Err(format!("the states are {}", words.join(", "))) }
}

/// What the commands that ask a master share.
#[derive(Args, Clone)]
pub(in crate::cli) struct AdminArgs {
    /// Host of the master; https://HOST or https://HOST:PORT speaks TLS
    #[arg(long, short = 'H', env = "POMELO_HOST", default_value = "127.0.0.1", global = true)]
    pub host: String,
    /// Port of the master
    #[arg(long, short = 'P', env = "POMELO_PORT", default_value = "3005", value_parser = port, global = true)]
    pub port: u16,
    /// User name [default: that of the certificate, otherwise admin]
    #[arg(long, short = 'u', env = "POMELO_USERNAME", global = true)]
    pub username: Option<String>,
    /// Password; safer in the environment, because `ps` shows arguments. A user's certificate needs none
    #[arg(long, short = 'p', env = "POMELO_PASSWORD", hide_env_values = true, global = true)]
    pub password: Option<Secret>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    pub timeout: u64,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// A time, milliseconds since 1970: so long ago, or as RFC 3339 has it.
fn since(text: &str) -> Result<u64, String> {
    let wrong = || "it is so long ago (30s, 10m, 2h, 1d), or a time such as 2026-01-31T12:00:00Z".to_owned();
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return time.timestamp_millis().try_into().map_err(|_| wrong());
    }
    let unit = text.chars().last().and_then(|unit| match unit {
        's' => Some(1_000),
        'm' => Some(60_000),
        'h' => Some(3_600_000),
        'd' => Some(86_400_000),
        _ => None,
    });
    let ago = unit.and_then(|unit: u64| text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(unit));
    let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
    Ok(now.saturating_sub(ago.ok_or_else(wrong)?))
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
    /// Show what a file or a module of the master imports, what that allows, and what is granted
    ///
    /// Of a file: nothing of it is run, and no master is asked.
    Inspect {
        /// Module id, or a file: what ends with .wasm or has a slash
        module: String,
        /// Of a file: the configuration whose grants count
        #[arg(long, value_name = "DIR")]
        config: Option<PathBuf>,
        /// Of a file: the environment of the configuration
        #[arg(long, short = 'e', default_value = DEFAULT_ENVIRONMENT)]
        env: String,
    },
    /// Show the versions of a module's file that are kept on the master
    History {
        /// Module id
        id: String,
    },
    /// Put a version of a module's file that is kept back into the master's modules' directory
    Rollback {
        /// Module id
        id: String,
        /// Digest of the version, or its beginning; without it, the newest good one that is not the present one
        digest: Option<String>,
    },
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
    fn a_time_is_so_long_ago_or_written_out() {
        assert_eq!(since("2026-01-31T12:00:00.5Z"), Ok(1_769_860_800_500));
        // The time is read before now, so that it is at least as long ago.
        let ago = |text| {
            let then = since(text).unwrap();
            u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap() - then
        };
        for (text, seconds) in [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            assert!((seconds * 1000..seconds * 1000 + 60_000).contains(&ago(text)), "{text}");
        }
        for wrong in ["", "10", "m", "-5m", "10 m", "yesterday", "99999999999999999999d", "5µ"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_also_read_out_of_what_kubernetes_says() {
        assert_eq!(port("3005"), Ok(3005));
        assert_eq!(port("tcp://10.0.0.1:3006"), Ok(3006));
        for wrong in ["", "0", "65536", "tcp://10.0.0.1", "http://10.0.0.1:80", "x"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
