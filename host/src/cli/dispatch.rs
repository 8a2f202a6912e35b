//! From a command's arguments to the function that does the work.

use std::path::Path;

use super::admin::{self, once};
use super::arguments::{AdminCommand, Command, HostCommand, ModulesAction};
use super::everything::chosen;
use super::jobs::{self, JobAction};
use super::list::{self, ListQuery};
use super::watch::LogQuery;
use super::{admit, cert, check, compile, init, inspect, module, orders, plan, run, shell, user, watch};

/// Runs a command to its end.
pub(super) async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Host(command) => of_a_host(command).await,
        Command::Admin(command) => of_an_admin(command).await,
        Command::Compile(arguments) => compile::run(&arguments),
        Command::User(arguments) => user::run(arguments),
        Command::Cert(arguments) => cert::run(&arguments),
        Command::Module(arguments) => module::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
    }
}

async fn of_a_host(command: HostCommand) -> anyhow::Result<()> {
    match command {
        HostCommand::Start { host, server_type, id, allow_exposed } => {
            run::start(host, server_type, id, allow_exposed).await
        }
        HostCommand::Master { host, allow_exposed } => run::master(host, allow_exposed).await,
        HostCommand::Monitor(arguments) => run::monitor(*arguments).await,
        HostCommand::DemoServer { port } => Ok(crate::demo::server(port).await?),
    }
}

async fn of_an_admin(command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::List { admin, server_type, state, watch } => {
            once(admin, async |session| list::list(session, ListQuery { server_type, state, watch }).await).await
        }
        AdminCommand::Describe { admin, id } => once(admin, async |session| list::describe(session, &id).await).await,
        AdminCommand::Add { admin, args } => once(admin, async |session| admin::add(session, args).await).await,
        AdminCommand::Stop { admin, targets, following } => {
            let targets = chosen(targets, "stop", "stop all servers and the master").await?;
            once(admin, async |session| orders::stop(session, targets, following).await).await
        }
        AdminCommand::Kill { admin, targets, following } => {
            let targets = chosen(targets, "kill", "kill all servers and the master").await?;
            once(admin, async |session| orders::kill(session, targets, following).await).await
        }
        AdminCommand::Restart { admin, targets, rolling, following } => {
            orders::check(&rolling)?;
            let targets = chosen(targets, "restart", "restart all servers").await?;
            once(admin, async |session| orders::restart(session, targets, rolling, following).await).await
        }
        AdminCommand::Drain { admin, targets, following } => {
            let targets = chosen(targets, "drain", "drain all servers").await?;
            once(admin, async |session| orders::drain(session, targets, following).await).await
        }
        AdminCommand::Undrain { admin, ids } => once(admin, async |session| orders::undrain(session, ids).await).await,
        AdminCommand::Jobs { admin, job, follow, cancel, resume } => {
            let action = match (follow, cancel, resume) {
                (true, ..) => JobAction::Follow,
                (_, true, _) => JobAction::Cancel,
                (.., true) => JobAction::Resume,
                _ => JobAction::Show,
            };
            once(admin, async |session| jobs::jobs(session, job, action).await).await
        }
        AdminCommand::Admit { admin, ids, all, seconds } => {
            once(admin, async |session| admit::admit(session, ids, all, seconds).await).await
        }
        AdminCommand::Modules { admin, action } => {
            let action = action.unwrap_or(ModulesAction::List);
            if let ModulesAction::Inspect { module, config, env } = &action
                && inspect::is_file(module)
            {
                return inspect::file(Path::new(module), config.as_deref(), env, admin.json);
            }
            once(admin, async |session| admin::modules(session, action).await).await
        }
        AdminCommand::Plan { admin } => once(admin, async |session| plan::plan(session).await).await,
        AdminCommand::Apply { admin, yes, pace, following } => {
            once(admin, async |session| plan::apply(session, async || plan::agree(yes).await, pace, following).await)
                .await
        }
        AdminCommand::Events { admin, follow, since } => watch::events(admin, follow, since).await,
        AdminCommand::Logs { admin, ids, server_type, follow, lines, since, grep, raw } => {
            watch::logs(admin, LogQuery { ids, server_type, follow, lines, from: since, grep, raw }).await
        }
        AdminCommand::Forget { admin, ids } => once(admin, async |session| watch::forget(session, ids).await).await,
        AdminCommand::Request { admin, module, message } => {
            let message = admin::message(&message)?;
            once(admin, async |session| admin::request(session, &module, &message).await).await
        }
        AdminCommand::Shell { admin, yes } => shell::run(admin, yes).await,
    }
}
