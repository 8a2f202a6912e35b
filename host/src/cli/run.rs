//! `start`, `master` and `monitor`: commands that run until they are told to end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::secure::Scheme;
use super::service_manager::ServiceManager;
use super::signals::Signals;
use super::{Exit, HostArgs, MonitorArgs, ReadyArg, WireArg, assemble};
use crate::auth::Tokens;
use crate::config::{Config, Origin, Ready, Running, Settings};
use crate::failure::Failure;
use crate::fleet::{Fleet, Forgetful, Store};
use crate::journal::{Event, Journal, kind};
use crate::master::fleet::{Files, Kept, Parts, SettingsOf};
use crate::master::starter::{ServerStarter, Which};
use crate::master::{Master, Own};
use crate::monitor::Monitor;
use crate::monitor::supervised::{Beside, NoPort, OwnProcess, Wanted};
use crate::reload::{CertificateFiles, ConfigFiles, CredentialFiles, Load, Modules};
use crate::state_db::{Damaged, StateDb, StateError};
use crate::supervise::print_lines;
use crate::transport::Wire;
use crate::util::lasting;

/// How long calls under way may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// A monitor needs a fraction of the instances that a master does.
const MONITOR_SHARE: u32 = 8;

/// Events that a monitor keeps until its master has them.
const KEPT_EVENTS: usize = 200;

pub(super) async fn start(
    host: HostArgs,
    server_type: Option<String>,
    id: Option<String>,
    allow_exposed: bool,
) -> anyhow::Result<()> {
    let credentials = credentials(&host);
    let config = assemble::config(&host)?;
    match (server_type, id) {
        (None, None) => cluster(config, Followed::of(&host, credentials), Some(Which::All), allow_exposed).await,
        (Some(server_type), _) => servers(config, Which::Type(server_type)).await,
        (None, Some(id)) if id == config.master.id => {
            cluster(config, Followed::of(&host, credentials), None, allow_exposed).await
        }
        (None, Some(id)) => servers(config, Which::Id(id)).await,
    }
}

pub(super) async fn master(host: HostArgs, allow_exposed: bool) -> anyhow::Result<()> {
    let credentials = credentials(&host);
    cluster(assemble::config(&host)?, Followed::of(&host, credentials), None, allow_exposed).await
}

/// The files that a master follows.
struct Followed {
    credentials: Option<CredentialFiles>,
    /// Where the other files may be, and how they are read.
    compared: Option<(Vec<PathBuf>, Load)>,
}

impl Followed {
    fn of(host: &HostArgs, credentials: Option<CredentialFiles>) -> Self {
        let read = host.clone();
        let load: Load = Arc::new(move || assemble::config(&read).map_err(|error| format!("{error:#}")));
        let paths = host.config.as_deref().map(|dir| Config::paths(dir, &host.env));
        Followed { credentials, compared: paths.map(|paths| (paths, load)) }
    }
}

/// The files of users and tokens. They are watched before they are read, so that no change is missed.
fn credentials(host: &HostArgs) -> Option<CredentialFiles> {
    host.config.as_deref().map(|dir| CredentialFiles::new(dir, &host.env))
}

/// Runs a master, and the servers of `which`, until a signal or a module ends it.
async fn cluster(config: Config, followed: Followed, which: Option<Which>, allow_exposed: bool) -> anyhow::Result<()> {
    let Signals { stop, look_again } = Signals::received()?;
    let manager = Arc::new(ServiceManager::of_environment());
    let address = assemble::address(&config).await?;
    let access = assemble::access(&config, address.ip(), allow_exposed)?;
    let tls = assemble::tls(&config)?;
    // The recorder comes first, because it misses everything that is counted before it is installed.
    let observe = assemble::observe(&config.settings);
    let engine = assemble::engine(&config.settings, 1, assemble::scale(Some(&config)))?;
    // A master's state is what is wanted of servers. Whether it begins without it is for the operator to decide.
    let state = assemble::state(Some(&config), &config.master.id, Damaged::Refuse)?.map(Arc::new);
    let journal = assemble::journal(&config, state.as_deref());
    let keeper = |host| state.as_ref().map(|state| state.of(host));
    let settings =
        assemble::settings(&config.settings, assemble::scale(Some(&config)), &config.environment, keeper("master"));
    let admin_log = assemble::admin_log(&config, &journal)?;
    let mut options = assemble::master_options(&config, address, observe, admin_log, journal.clone(), tls.clone());
    let store: Arc<dyn Store> = match &state {
        Some(state) => Arc::new(Kept::new(state.clone()).map_err(|failure| Exit::failed(failure.message))?),
        None => Arc::new(Forgetful),
    };
    let fleet = Arc::new(Fleet::load(store));
    // The starter needs the master's port for its monitors, but a port that the system chooses is known only when the master listens.
    let starter = match config.master.port {
        0 if which.is_some() => return Err(Exit::usage("the master needs a fixed port to start servers")),
        _ => {
            let starter = ServerStarter::new(&config, &config.master.address(), fleet.added())?;
            let starter = starter.recording(options.journal.clone()).feeding(fleet.clone());
            Arc::new(match assemble::files_in_force(&config) {
                Some(file) => starter.handing_on(file)?,
                None => starter,
            })
        }
    };
    let files = followed.compared.map(|(paths, load)| {
        let running: Arc<dyn Running> = starter.clone();
        ConfigFiles::new(paths, load, config.clone(), running, journal.clone())
    });
    let in_force = files.as_ref().map(ConfigFiles::in_force);
    options.files = in_force.clone().map(|in_force| {
        let master = config.master.id.clone();
        let settings: SettingsOf = Arc::new(move |config| {
            let settings =
                assemble::settings(&config.settings, assemble::scale(Some(config)), &config.environment, None);
            (settings, assemble::scripts(Some(config), &config.settings, &master))
        });
        Files { in_force, settings }
    });
    let own = Arc::new(OwnProcess::new(&config.master.id, "master", stop.clone()));
    let own = Own {
        application: own.application(),
        process: own,
        keeper: keeper("monitor"),
        scripts: assemble::scripts(Some(&config), &config.settings, &config.master.id),
    };
    fleet.name(&starter.named(which.is_some()).await);
    let parts = Parts { fleet, starter: starter.clone() };
    // A signal that comes while the master starts ends the start.
    let master = Master::start(options, access, own, Some(parts), engine, settings);
    let Some(master) = stop.run_until_cancelled(master).await.transpose()? else { return Ok(()) };
    let serving = async {
        let (directory, options) = (&config.settings.modules.dir, assemble::reload_options(&config.settings));
        let modules = Modules::watch(directory, master.consoles().into(), options)?;
        let directory = modules.directory().to_owned();
        master.hand_on(modules.looked_at());
        let following = modules.follow(stop.clone());
        let certificates = tls.map(|tls| CertificateFiles::new(tls, journal.clone()));
        if let Some(certificates) = certificates.clone() {
            let stop = stop.clone();
            tokio::spawn(lasting::lasting("what follows the certificate", move || {
                certificates.clone().follow(stop.clone())
            }));
        }
        if let Some(files) = files {
            let (in_force, manager) = (files.in_force(), manager.clone());
            tokio::spawn(files.follow(stop.clone()));
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                loop {
                    look_again.notified().await;
                    lasting::step("what looks at the files when it is told to", async {
                        manager.reloading();
                        in_force.look().await;
                        if let Some(certificates) = &certificates {
                            // What was not taken has been told.
                            let _ = certificates.read().await;
                        }
                        manager.reloaded();
                    })
                    .await;
                }
            }));
        }
        if let Some(files) = followed.credentials {
            let (config, replace) = (config.clone(), master.access());
            tokio::spawn(files.follow(stop.clone(), move |credentials| {
                let (users, tokens) = assemble::credentials(&config, address.ip(), allow_exposed, credentials)?;
                replace.set(users, tokens);
                Ok(())
            }));
        }
        let starting = async {
            master.run_modules().await;
            tracing::info!(address = %master.address(), modules = %directory.display(), "the master is listening");
            manager.ready(format!("listening on {}, and starting servers", master.address()));
            // Servers that cannot be started are rows of the fleet. The master goes on, so that the others can be administered.
            master.start_servers().await;
            manager.status(format!("listening on {}", master.address()));
            if which.is_some() {
                say_what_next(&config, &directory);
            }
            anyhow::Ok(())
        };
        let following = async {
            following.await;
            anyhow::Ok(())
        };
        tokio::try_join!(starting, following)?;
        anyhow::Ok(())
    };
    stop.run_until_cancelled(serving).await.transpose()?;
    tracing::info!("shutting down");
    manager.stopping().await;
    master.end_jobs(DRAIN).await;
    let longest = in_force.map_or_else(|| config.longest_stop(), |in_force| in_force.config().longest_stop());
    starter.stop_all(longest + DRAIN).await;
    master.shut_down(DRAIN).await;
    journal.close();
    if let Some(state) = state {
        flush(&state);
    }
    Ok(())
}

fn flush(state: &StateDb) {
    if let Err(unwritten) = state.flush() {
        tracing::error!("what was to be kept last is lost: {unwritten}");
    }
}

fn say_what_next(config: &Config, modules: &std::path::Path) {
    let program = std::env::args().next().unwrap_or_else(|| "pomelo".into());
    let port = match config.master.port {
        3005 => String::new(),
        port => format!(" --port {port}"),
    };
    let some = config.servers.first().map_or("ID", |server| &server.id);
    // The cluster starts even if nobody can read this.
    let _ = super::print::lines(format!(
        "\nThe cluster is starting. In another terminal:\n  \
         {program} list{port}\n  \
         {program} restart{port} {some}\n  \
         {program} stop{port} {some}\n  \
         {program} modules{port}\n\
         Modules dropped into {} run at once. Ctrl-C ends everything.\n",
        modules.display()
    ));
}

/// Names in the log the servers that were not started, also those of other machines.
///
/// # Errors
/// If no server was started.
fn name_failures(outcomes: &[(String, Result<(), Failure>)]) -> Result<(), String> {
    let (mut started, mut last) = (false, None);
    for (id, outcome) in outcomes {
        match outcome {
            Ok(()) => started = true,
            Err(failure) => {
                tracing::error!(server = %id, %failure, "a server was not started");
                last = Some(failure);
            }
        }
    }
    match last {
        Some(failure) if !started => Err(format!("no server was started: {}", failure.message)),
        _ => Ok(()),
    }
}

/// Runs the monitors of some servers, which join a master that runs already. Ends at a signal, or when all of them have ended.
async fn servers(config: Config, which: Which) -> anyhow::Result<()> {
    if config.origin == Origin::Demo && std::env::var_os(crate::config::DEMO_TOKEN_VARIABLE).is_none() {
        return Err(Exit::usage(
            "the demo cluster's servers are started by its master: `pomelo restart ID` brings one back; \
             `--config DIR` names a cluster of your own",
        ));
    }
    // A change of the files is for servers that are started anew.
    let Signals { stop, .. } = Signals::received()?;
    let manager = ServiceManager::of_environment();
    // A server that runs already is somebody else's, so that it is left alone, also when it ends.
    let starter = ServerStarter::new(&config, &config.master.address(), BTreeMap::new())?.yielding();
    let serving = async {
        let outcomes = starter.run(&which).await.map_err(|unknown| Exit::usage(unknown.message))?;
        let started = name_failures(&outcomes);
        if started.is_ok() {
            manager.ready("the servers' monitors run");
        }
        starter.all_down().await;
        let running = starter.running_already();
        if !running.is_empty() && running.len() == outcomes.len() {
            let (ids, run) = (Vec::from_iter(running).join(", "), if outcomes.len() == 1 { "runs" } else { "run" });
            return Err(Exit::runs_already(format!("{ids} {run} already, so that nothing was started")));
        }
        started.map_err(Exit::failed)?;
        tracing::info!("all servers that were started here have been stopped");
        Ok(())
    };
    stop.run_until_cancelled(serving).await.transpose()?;
    manager.stopping().await;
    starter.stop_all(config.longest_stop() + DRAIN).await;
    Ok(())
}

pub(super) async fn monitor(arguments: MonitorArgs) -> anyhow::Result<()> {
    let Signals { stop, look_again } = Signals::received()?;
    let manager = Arc::new(ServiceManager::of_environment());
    if arguments.attached {
        ends_with_input(stop.clone());
    }
    let config = assemble::monitor_config(&arguments)?;
    let server = config.as_ref().and_then(|config| config.server(&arguments.id));
    let server_type = arguments.server_type.clone().or_else(|| server.map(|server| server.server_type.clone()));
    let Some(server_type) = server_type else {
        let known = config.as_ref().map_or_else(String::new, |_| " in servers.json".into());
        return Err(Exit::usage(format!("there is no server `{}`{known}: name its type with --type", arguments.id)));
    };
    let named = arguments.pomelo_master.clone().or_else(|| arguments.master.clone());
    let master = named.or_else(|| config.as_ref().map(|config| config.master.address()));
    let master = master.unwrap_or_else(|| "127.0.0.1:3005".into());
    let token = arguments.token.clone().or_else(|| {
        let tokens = Tokens::new(config.as_ref()?.tokens.clone());
        tokens.own(&server_type).cloned()
    });
    let default = Settings::default();
    let settings = config.as_ref().map_or(&default, |config| &config.settings);
    let mut info = server.map(|server| server.info.clone()).unwrap_or_default();
    info.entry("host").or_insert_with(|| "127.0.0.1".into());

    let http = arguments.http.or(settings.monitor_http);
    let observe = http.map(|_| assemble::observe(settings));
    // The database is opened first, because only one process can open it: a second monitor of this server must neither run its program nor touch its
    // view.
    let state = assemble::state(config.as_ref(), &arguments.id, Damaged::SetAside).map_err(|error| match error
        .downcast_ref::<StateError>(
    ) {
        Some(error) if error.is_in_use() => Exit::runs_already(format!(
            "{} runs already: another monitor has its state open, so that nothing was started ({error})",
            arguments.id
        )),
        _ => error,
    })?;
    let journal = Journal::new(KEPT_EVENTS);
    if let Some(state) = &state {
        state.tell(&journal);
        // A server must not stay down for what its modules had stored.
        if let Some(aside) = state.set_aside() {
            let message = format!(
                "the state of {} was damaged, and modules begin without what they had stored; the damaged file is {}",
                arguments.id,
                aside.display()
            );
            tracing::error!("{message}");
            journal.record(Event::new(kind::ALARM, message).server(&arguments.id));
        }
    }
    let wanted = Wanted {
        id: &arguments.id,
        server_type: &server_type,
        master: &master,
        config: config.as_ref(),
        command: arguments.command.clone(),
        ready: arguments.ready.map(Ready::from),
        journal: journal.clone(),
    };
    let no_port = |NoPort| Exit::usage(format!("--ready port: servers.json gives {} no port", arguments.id));
    let beside = match wanted.program().map_err(no_port)? {
        Some(program) => Beside::program(program, print_lines()).await?,
        None => Beside::own_process(&arguments.id, &server_type, stop.clone()),
    };
    let scale = assemble::scale(config.as_ref());
    let mut options = assemble::monitor_options(&settings.network, scale);
    (options.id, options.server_type, options.info, options.token) = (arguments.id.clone(), server_type, info, token);
    options.connection.tls = match arguments.tls.client(Scheme::of(&master))? {
        None if arguments.pomelo_master.is_none() && Scheme::of(&master) != Scheme::Clear => {
            assemble::monitor_tls(settings, &arguments.id)?
        }
        tls => tls,
    };
    options.wire = arguments.wire.map_or(options.wire, Wire::from);
    options.told = beside.told.clone();
    options.health = beside.health.clone();
    options.scripts = assemble::scripts(config.as_ref(), settings, &arguments.id);
    options.journal = journal.clone();
    options.apply = look_again.clone();
    let takes = settings.modules.from_master && arguments.pomelo_master.is_none();
    let configured = match takes {
        true => settings.modules.local.clone(),
        false => config.as_ref().map(|config| config.settings.modules.dir.clone()),
    };
    let directory = arguments.modules.clone().or(configured);
    if takes {
        options.from_master = assemble::from_master(config.as_ref(), &arguments.id, directory.as_deref())?;
    }
    let from_master = options.from_master.clone();
    let engine = assemble::engine(settings, MONITOR_SHARE, scale)?;
    let keeper = state.as_ref().map(|state| state.of("monitor"));
    let console_settings = assemble::settings(settings, scale, &arguments.env, keeper);
    let monitor = Arc::new(Monitor::new(options, beside.services.clone(), engine, console_settings).await?);
    if let Some((address, observe)) = http.zip(observe) {
        let served = monitor.serve_http(address, observe).await;
        served.with_context(|| format!("metrics cannot be served at {address}"))?;
    }
    let reading = {
        let (arguments, monitor, manager) = (arguments.clone(), monitor.clone(), manager.clone());
        lasting::lasting("what reads the files again", move || {
            reads_again(arguments.clone(), monitor.clone(), look_again.clone(), manager.clone(), journal.clone())
        })
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
    let mut options = assemble::reload_options(settings);
    options.poll |= arguments.poll;
    let directories = directory.into_iter().chain(from_master.map(|from_master| from_master.directory().to_owned()));
    let watch = |directory: PathBuf| Modules::watch(&directory, vec![monitor.console().clone()], options.clone());
    let modules = directories.map(watch).collect::<Result<Vec<_>, _>>()?;
    // The program comes last: a monitor that lacks something ends before it has run its program.
    let following: Vec<_> = modules.into_iter().map(|modules| tokio::spawn(modules.follow(stop.clone()))).collect();
    // A monitor that was asked to end meanwhile does not begin.
    if !stop.is_cancelled() {
        beside.launch();
    }
    if arguments.pomelo_master.is_some() {
        monitor.join_pomelo(master, beside.phase.clone());
    } else {
        monitor.join(master, beside.phase.clone());
    }
    let telling = {
        let (manager, phase, link, stop) = (manager.clone(), beside.phase.clone(), monitor.state(), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(manager.follow(phase, link)).await;
            stop.cancelled().await;
            manager.stopping().await;
        })
    };
    let given_up = beside.until_the_end(&monitor, &stop, DRAIN).await;
    let _ = telling.await;
    for following in following {
        let _ = following.await;
    }
    if let Some(state) = state {
        flush(&state);
    }
    if given_up {
        return Err(Exit::given_up(format!("the program of {} has ended and is not brought back", arguments.id)));
    }
    Ok(())
}

/// Takes over the settings of modules and scripts whenever the files are to be read again: the master has applied its own, or a signal says so.
async fn reads_again(
    arguments: MonitorArgs,
    monitor: Arc<Monitor>,
    again: Arc<Notify>,
    manager: Arc<ServiceManager>,
    journal: Journal,
) {
    loop {
        again.notified().await;
        manager.reloading();
        let read = arguments.clone();
        let read = tokio::task::spawn_blocking(move || assemble::monitor_config(&read)).await;
        match read.map_err(anyhow::Error::from).flatten() {
            Ok(None) => {}
            Ok(Some(config)) => {
                let settings =
                    assemble::settings(&config.settings, assemble::scale(Some(&config)), &arguments.env, None);
                let scripts = assemble::scripts(Some(&config), &config.settings, &arguments.id);
                let applied = monitor.apply(settings, scripts).await;
                if !applied.is_empty() {
                    tracing::info!(?applied, "the files were read again");
                }
            }
            Err(faults) => {
                let message = format!("the files cannot be taken, and what was read before stays: {faults:#}");
                tracing::error!("{message}");
                journal.record(Event::new(kind::FILES, message).server(&arguments.id));
            }
        }
        manager.reloaded();
    }
}

impl From<WireArg> for Wire {
    fn from(argument: WireArg) -> Self {
        match argument {
            WireArg::SocketIo => Wire::SocketIo,
            WireArg::Pomelo => Wire::Pomelo,
        }
    }
}

impl From<ReadyArg> for Ready {
    fn from(argument: ReadyArg) -> Self {
        match argument {
            ReadyArg::Delay => Ready::Delay,
            ReadyArg::Port => Ready::Port,
            ReadyArg::Control => Ready::Control,
        }
    }
}

/// Cancels a token when standard input ends. A thread of its own reads it, because not every kind of standard input can be awaited.
fn ends_with_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        // Neither the input nor the reason of its end matters.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.cancel();
    });
}
