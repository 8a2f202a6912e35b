use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Launch, Ready};
use crate::failure::{Failure, code};
use crate::journal::Journal;
use crate::monitor::application::Functions;
use crate::monitor::application::control::Client;
use crate::plugin::capability::Process;
use crate::supervise::{Line, LineSink, Phase, Policy, Restart, Starts};
use crate::wire::PhaseName;

const LONG: Duration = Duration::from_secs(30);

fn program(script: &str, dir: Option<std::path::PathBuf>) -> (Program, LineSink, mpsc::Receiver<Line>) {
    let (sink, lines) = mpsc::channel(64);
    let program = Program {
        id: "chat/1".into(),
        server_type: "chat".into(),
        master: "127.0.0.1:3005".into(),
        launch: Launch { command: ["sh", "-c", script].map(str::to_owned).into(), cwd: None, env: BTreeMap::new() },
        cpus: Vec::new(),
        force: false,
        policy: Policy {
            restart: Restart::Always,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(10),
            healthy_after: LONG,
            ready_delay: Duration::ZERO,
            stop_deadline: LONG,
        },
        ready: Ready::Delay,
        address: None,
        ready_timeout: LONG,
        health: None,
        output_lines: 100,
        kept: Default::default(),
        logs: None,
        crons: Vec::new(),
        dir,
        journal: Journal::default(),
        starts: Starts::unlimited(),
    };
    (program, sink, lines)
}

/// A program that was prepared and launched.
async fn launched(program: Program, output: LineSink) -> Supervised {
    let supervised = Supervised::prepare(program, output).await.unwrap();
    supervised.launch();
    supervised
}

fn info(id: &str) -> crate::wire::Info {
    json!({"id": id}).as_object().unwrap().clone()
}

#[tokio::test]
async fn a_program_finds_its_place_and_a_view_from_the_beginning() {
    let script =
        "echo $POMELO_SERVER_ID $POMELO_SERVER_TYPE $POMELO_MASTER; cat $POMELO_CLUSTER; echo; exec sleep 1000";
    let (program, output, mut lines) = program(script, None);
    let supervised = launched(program, output).await;
    let mut line = async || timeout(LONG, lines.recv()).await.unwrap().unwrap().text;
    assert_eq!(line().await, "chat/1 chat 127.0.0.1:3005");
    assert_eq!(line().await, r#"{"self":"chat/1","servers":{},"startOver":false}"#);
    let dir = supervised.view_file().parent().unwrap().to_owned();
    drop(supervised);
    assert!(!dir.exists(), "a directory of its own goes with it");
}

#[tokio::test]
async fn a_program_that_is_prepared_runs_when_it_is_launched_and_never_if_it_was_stopped_before() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo up; exec sleep 1000";
    let (program, output, mut lines) = program(script, Some(dir.path().join("stopped")));
    let stopped = Supervised::prepare(program, output).await.unwrap();
    assert_eq!(stopped.stats().unwrap().state, "starting");
    stopped.stop().await.unwrap();
    stopped.launch();
    // Answered by the task that would have launched it.
    stopped.stop().await.unwrap();
    assert_eq!((stopped.stats().unwrap().state, stopped.stats().unwrap().restarts), ("exited", 0));
    drop(stopped);
    assert!(timeout(LONG, lines.recv()).await.unwrap().is_none(), "it has written nothing");

    let (program, output, mut lines) = self::program(script, Some(dir.path().join("launched")));
    let launched = launched(program, output).await;
    assert_eq!(timeout(LONG, lines.recv()).await.unwrap().unwrap().text, "up");
    drop(launched);
}

#[tokio::test]
async fn w3_views_reach_the_file_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (program, output, _lines) = program("exec sleep 1000", Some(dir.path().join("deep")));
    let supervised = std::sync::Arc::new(launched(program, output).await);
    let application = supervised.application();
    let file = || serde_json::from_slice::<Value>(&std::fs::read(supervised.view_file()).unwrap()).unwrap();
    application.add_servers(vec![info("a"), info("b")]).await.unwrap();
    assert_eq!(file()["servers"], json!({"a": {"id": "a"}, "b": {"id": "b"}}));
    application.remove_servers(vec!["a".into(), "nobody".into()]).await.unwrap();
    assert_eq!(file()["servers"], json!({"b": {"id": "b"}}));
    let refused = application.add_servers(vec![info("c"), crate::wire::Info::new()]).await.unwrap_err();
    assert_eq!((refused.code.as_ref(), application.servers().len()), (code::BAD_MESSAGE, 1));
    application.replace_servers(info("x")).await.unwrap();
    assert_eq!(file()["servers"], json!({"id": "x"}));
    application.start_over().await.unwrap();
    assert_eq!(file()["startOver"], json!(true));

    let reader = tokio::task::spawn_blocking({
        let path = supervised.view_file().to_owned();
        move || (0..500).all(|_| serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).is_ok())
    });
    let changes = (0..200).map(|n| application.add_servers(vec![info(&format!("s{n}"))]));
    for done in futures_util::future::join_all(changes).await {
        done.unwrap();
    }
    assert!(reader.await.unwrap(), "a reader never sees half a file");
    assert_eq!(file()["servers"].as_object().unwrap().len(), 201);
    let left = std::fs::read_dir(supervised.view_file().parent().unwrap()).unwrap().count();
    assert_eq!(left, 3, "view, socket and output, and nothing is left over");
    supervised.kill().await.unwrap();
}

#[tokio::test]
async fn c1_figures_are_those_of_the_program() {
    let (program, output, _lines) = program("exec sleep 1000", None);
    let supervised = launched(program, output).await;
    let running = |status: &crate::supervise::Status| matches!(status.phase, Phase::Running(_));
    let pid = timeout(LONG, supervised.status().wait_for(running)).await.unwrap().unwrap().pid().unwrap();
    let stats = supervised.stats().unwrap();
    assert_eq!((stats.pid, stats.state, stats.restarts), (pid, "running", 0));
    assert!(stats.rss > 0 && stats.heap_total > 0 && stats.uptime >= 0.0, "{stats:?}");
    let other = supervised.restart().await.unwrap();
    let stats = supervised.stats().unwrap();
    assert_eq!((stats.pid, stats.restarts), (other, 1));
    supervised.stop().await.unwrap();
    let stats = supervised.stats().unwrap();
    assert_eq!((stats.pid, stats.rss, stats.state), (0, 0, "exited"));
    assert_eq!(supervised.restart().await.unwrap_err().code, code::NOT_AVAILABLE);
}

#[tokio::test]
async fn a_program_that_drains_is_hidden_until_it_is_put_back_or_is_another_process() {
    let (program, output, mut lines) = program("echo $POMELO_CONTROL; exec sleep 1000", None);
    let mut beside = Beside::program(program, output).await.unwrap();
    beside.launch();
    let (process, application) =
        (beside.services.process.clone().unwrap(), beside.services.application.clone().unwrap());
    let socket = timeout(LONG, lines.recv()).await.unwrap().unwrap().text;
    let (told, mut hears) = mpsc::channel(8);
    let drained = told.clone();
    let functions = Functions::new()
        .on("connections", async |_: serde::de::IgnoredAny| Ok(json!({"totalConnCount": 3})))
        .on_drain(move |time| {
            let sent = drained.try_send(format!("drain {}", time.as_millis()));
            async move { sent.map_err(|error| Failure::new(code::FAILED, error.to_string())) }
        })
        .on_undrain(move || {
            let sent = told.try_send("undrain".to_owned());
            async move { sent.map_err(|error| Failure::new(code::FAILED, error.to_string())) }
        });
    let _client = Client::connect(std::path::Path::new(&socket), functions, true).await.unwrap();
    let offers = async || {
        while application.offers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, offers()).await.unwrap();
    assert_eq!(application.offers(), ["connections"], "modules cannot call what the host itself calls");
    let refused = application.call("drain".into(), crate::wire::raw(&json!({"deadlineMs": 1}))).await.unwrap_err();
    assert_eq!(refused.code, code::NOT_AVAILABLE);

    let mut phase = async |wanted: PhaseName, connections| {
        let is = |phase: &crate::wire::Phase| (phase.phase, phase.connections) == (wanted, connections);
        timeout(LONG, beside.phase.wait_for(is)).await.unwrap().unwrap().clone()
    };
    let first = phase(PhaseName::Running, None).await;
    let hour = Duration::from_secs(3600);
    let drain = |process: std::sync::Arc<dyn Process>| tokio::spawn(async move { process.drain(hour).await });
    let drains = drain(process.clone());
    let draining = phase(PhaseName::Draining, Some(3)).await;
    assert_eq!((draining.pid, draining.serving(first.pid)), (first.pid, None));
    assert_eq!(process.stats().unwrap().state, "draining");
    process.undrain().await.unwrap();
    assert_eq!(drains.await.unwrap().unwrap_err().code, code::NOT_AVAILABLE, "it was taken back");
    assert_eq!(phase(PhaseName::Running, None).await.pid, first.pid);
    assert_eq!(process.stats().unwrap().state, "running");
    assert_eq!((hears.recv().await.unwrap(), hears.recv().await.unwrap()), ("drain 3600000".into(), "undrain".into()));

    let drains = drain(process.clone());
    phase(PhaseName::Draining, Some(3)).await;
    let other = process.restart().await.unwrap();
    drains.await.unwrap().unwrap();
    assert_eq!(phase(PhaseName::Running, None).await.pid, Some(other));
    let drains = drain(process.clone());
    // The new process is not connected, so that nobody says how many are left.
    phase(PhaseName::Draining, None).await;
    process.stop().await.unwrap();
    drains.await.unwrap().unwrap();
    phase(PhaseName::Stopped, None).await;
    assert_eq!(process.drain(hour).await.unwrap_err().code, code::NOT_AVAILABLE);
}

#[tokio::test]
async fn a_host_without_a_program_ends_itself_when_asked() {
    let end = CancellationToken::new();
    let own = OwnProcess::new("master-server-1", "master", end.clone());
    let stats = own.stats().unwrap();
    assert_eq!((stats.pid, stats.state), (std::process::id(), "running"));
    assert!(stats.rss > 0);
    let application = own.application();
    application.add_servers(vec![info("a")]).await.unwrap();
    assert_eq!(application.servers().len(), 1);
    let nothing = application.call("connections".into(), crate::wire::null().to_owned()).await.unwrap_err();
    assert_eq!(nothing.code, code::NOT_AVAILABLE);
    assert_eq!(own.usage().await.unwrap()["serverType"], "master");
    assert!(own.system().await.unwrap()["totalmem"].as_u64().unwrap() > 0);
    assert_eq!(own.output(None, 10, Duration::ZERO).await.unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(own.restart().await.unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(own.drain(Duration::ZERO).await.unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(own.undrain().await.unwrap_err().code, code::NOT_AVAILABLE);
    assert!(!end.is_cancelled());
    own.stop().await.unwrap();
    assert!(end.is_cancelled());
}

#[test]
fn what_stands_beside_a_monitor_is_what_was_said_and_then_what_is_configured() {
    let demo = crate::config::Config::demo().unwrap();
    let configured = &demo.servers[0];
    let wanted = |id, config, command: &[&str], ready| {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Wanted { id, server_type: "chat", master: "10.0.0.1:1", config, command, ready, journal: Journal::default() }
    };
    assert!(wanted("new", None, &[], None).program().unwrap().is_none());
    let new = wanted("new", None, &["chat", "-v"], Some(Ready::Control)).program().unwrap().unwrap();
    assert_eq!((new.ready, new.launch.command), (Ready::Control, vec!["chat".to_owned(), "-v".to_owned()]));
    assert_eq!(wanted("new", None, &["chat"], Some(Ready::Port)).program().unwrap_err(), NoPort);
    let own = wanted(&configured.id, Some(&demo), &[], None).program().unwrap().unwrap();
    assert_eq!(Some(&own.launch), configured.launch.as_ref());
    assert_eq!((own.master.as_str(), own.address), ("10.0.0.1:1", configured.address()));
    let other = wanted(&configured.id, Some(&demo), &["other"], Some(Ready::Port)).program().unwrap().unwrap();
    assert_eq!((other.launch.command, other.ready), (vec!["other".to_owned()], Ready::Port));
}
