//! What the command line accepts, group by group; clap makes the parser and the `--help` texts from it. Knows nothing of what the commands do.
//!
//! | file | commands |
//! |---|---|
//! | `host` | `start`, `master`, `monitor` |
//! | `admin` | those that ask a running master: `list` to `shell` |
//!
//! The arguments of `user`, `cert`, `check` and `init` are in the files of these names beside this folder.

mod admin;
mod host;

use clap::{Parser, Subcommand};

pub(super) use self::admin::{AdminArgs, AdminCommand, Following, LOG_LINES, ModulesAction, Pace, Rolling, Targets};
pub(super) use self::host::{CompileArgs, HostArgs, HostCommand, MonitorArgs, ReadyArg, WireArg};
use super::cert::CertArgs;
use super::check::CheckArgs;
use super::init::InitArgs;
use super::module::ModuleArgs;
use super::user::UserArgs;

const AFTER_HELP: &str = "\
Without a configuration `pomelo start` runs a demo cluster.

Exit codes:
  0    done
  1    the command failed, or the cluster refused it
  2    wrong arguments or configuration
  3    no master can be reached
  4    the master refuses the user
  5    no answer in time
  6    a monitor's program has ended, and its `restart` policy does not start it again
  7    standard output cannot be written to; what was asked for may have been done
  8    the server runs already under another monitor; nothing was started
  130  Ctrl-C ended the command, and an order that the master has taken goes on;
       or a second SIGTERM or SIGINT ended a host at once

POMELO_CA, POMELO_CERT and POMELO_KEY name the files of --ca, --cert and --key.
POMELO_LOG sets what is logged: error, warn, info, debug, trace, or tracing's filters.
POMELO_LOG=info,pomelo::call=debug shows every call of a handler.
POMELO_LOG_FORMAT=json logs a JSON object a line.
POMELO_CACHE is the directory where compiled modules are kept; empty, none are kept.";

/// Runs and administers clusters of servers; admin modules are WebAssembly components.
#[derive(Parser)]
#[command(name = "pomelo", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Host(HostCommand),
    #[command(flatten)]
    Admin(AdminCommand),
    /// Compile a component that comes over standard input
    #[command(name = "__compile", hide = true)]
    Compile(CompileArgs),
    /// Say who may log in: add, remove and list users, change passwords
    User(UserArgs),
    /// Make certificates of the cluster's own authority, and renew them
    Cert(CertArgs),
    /// For authors of modules: make keys, and sign files with them
    Module(ModuleArgs),
    /// Report every fault of a configuration at once, and warn of what may be one
    Check(CheckArgs),
    /// Write a working configuration with secrets of its own
    Init(InitArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_all_exit_codes() {
        use crate::cli::exit::{INTERRUPTED, UNPRINTED};
        use crate::monitor::{GIVEN_UP, RUNS_ALREADY};
        for code in (0..=5).chain([GIVEN_UP, UNPRINTED, RUNS_ALREADY, INTERRUPTED]) {
            assert!(AFTER_HELP.contains(&format!("\n  {code:<3}  ")), "{code}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
