use std::fs;
use std::path::Path;

use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// A starter whose monitors are shells that write their arguments to `DIR/ID`, run a program in a group of its own, and end it when asked.
fn starter(dir: &Path, script: &str) -> LocalStarter {
    let servers = r#"{"chat": [{"id": "chat-1", "port": 1}, {"id": "chat-2", "port": 2}],
                      "gate": [{"id": "gate-1", "port": 3}, {"id": "far", "host": "192.0.2.1"}]}"#;
    fs::write(dir.join("master.json"), "{}").unwrap();
    fs::write(dir.join("servers.json"), servers).unwrap();
    fs::write(dir.join("pomelo.toml"), "[supervise]\nbackoff_min_ms = 10\nbackoff_max_ms = 10\n").unwrap();
    let config = Config::load(dir, "development").unwrap();
    let script = format!("for id; do :; done; echo $$ $* > {}/$id; {script}", dir.display());
    let command = ["sh", "-c", &script, "pomelo"].map(str::to_owned).into();
    LocalStarter::with_program(&config, "127.0.0.1:9", command).unwrap()
}

fn config_modules(dir: &Path) -> String {
    Config::load(dir, "development").unwrap().settings.modules.dir.display().to_string()
}

/// The first word and the rest of what a monitor wrote, once it has, and once it is not `before`.
async fn wrote(dir: &Path, id: &str, before: &str) -> (String, String) {
    let written = async {
        loop {
            let text = fs::read_to_string(dir.join(id)).unwrap_or_default();
            if let Some((pid, rest)) = text.trim().split_once(' ')
                && text.ends_with('\n')
                && pid != before
            {
                return (pid.to_owned(), rest.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, written).await.expect("the monitor writes")
}

async fn gone(pid: &str) {
    let gone = async {
        while fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, gone).await.unwrap_or_else(|_| panic!("{pid} still runs"));
}

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.01; done";

#[tokio::test]
async fn s4_monitors_of_this_machine_are_run_and_end_with_the_starter() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    let outcome = starter.run(&Which::All).await.unwrap();
    let ids: Vec<_> = outcome.iter().map(|(id, outcome)| (id.as_str(), outcome.is_ok())).collect();
    assert_eq!(ids, [("chat-1", true), ("chat-2", true), ("gate-1", true), ("far", false)]);
    assert!(outcome[3].1.as_ref().unwrap_err().message.contains("pomelo monitor --id far"));
    let (pid, arguments) = wrote(dir.path(), "chat-1", "").await;
    let config = dir.path().display();
    let modules = config_modules(dir.path());
    let master = "--master 127.0.0.1:9";
    assert_eq!(
        arguments,
        format!("monitor --quiet --config {config} --env development {master} --modules {modules} --id chat-1")
    );
    assert_eq!(starter.start("chat-1".into()).await.unwrap_err().code, code::BUSY);
    let unknown = starter.start("chat-9".into()).await.unwrap_err();
    assert!(unknown.code == code::NOT_FOUND && unknown.message.contains("chat-1, chat-2"), "{unknown}");
    starter.stop_all(LONG).await;
    gone(&pid).await;
    assert_eq!(starter.start("chat-1".into()).await.unwrap_err().code, code::NOT_AVAILABLE);
}

#[tokio::test]
async fn s4_one_type_or_one_server_can_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    let names = |outcome: Vec<(String, Result<(), Failure>)>| outcome.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(names(starter.run(&Which::Type("chat".into())).await.unwrap()), ["chat-1", "chat-2"]);
    assert_eq!(names(starter.run(&Which::Id("gate-1".into())).await.unwrap()), ["gate-1"]);
    let unknown = starter.run(&Which::Type("chta".into())).await.unwrap_err();
    assert!(unknown.message.contains("no server of type `chta` is configured (configured: chat, gate)"), "{unknown}");
}

#[tokio::test]
async fn s4_a_monitor_that_dies_comes_back_and_one_that_was_stopped_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    starter.start("chat-1".into()).await.unwrap();
    let (first, _) = wrote(dir.path(), "chat-1", "").await;
    let signal = |pid: &str, signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), signal).unwrap();
    };
    signal(&first, nix::sys::signal::Signal::SIGKILL);
    let (second, _) = wrote(dir.path(), "chat-1", &first).await;
    let mut status = starter.state.lock().monitors["chat-1"].status();
    timeout(LONG, status.wait_for(|status| matches!(status.phase, Phase::Running(_)))).await.unwrap().unwrap();
    // A monitor whose module was told to stop ends like this, with code 0. The trap is set when the file is written, or soon after.
    let stopped = async {
        while status.borrow().phase != Phase::Exited(Ended::GivenUp) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(second.parse().unwrap()),
                nix::sys::signal::Signal::SIGTERM,
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(LONG, stopped).await.is_err() {
        panic!("it was brought back: {:?}", status.borrow().clone());
    }
    starter.start("chat-1".into()).await.unwrap();
    let (third, _) = wrote(dir.path(), "chat-1", &second).await;
    drop(starter);
    gone(&third).await;
}

#[tokio::test]
async fn a_monitor_that_does_not_listen_is_killed_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), "trap '' TERM; while :; do sleep 0.01; done");
    starter.start("gate-1".into()).await.unwrap();
    let (pid, _) = wrote(dir.path(), "gate-1", "").await;
    starter.stop_all(Duration::from_millis(50)).await;
    gone(&pid).await;
}
