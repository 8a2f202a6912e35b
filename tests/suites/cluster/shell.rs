//! `pomelo shell`: commands from a pipe, and typed by an operator on a terminal.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use rexpect::session::{PtySession, spawn_command};
use serde_json::{Value, json};

use crate::support::*;

pub fn shell(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = pomelo(&["shell", &format!("--port={}", cluster.port)]);
    // No test touches the history of whoever runs it.
    command.args(arguments).env("POMELO_HISTORY", cluster.path("history"));
    command
}

fn two_servers() -> Cluster {
    let cluster = Cluster::start(
        json!({"chat": [{"id": "chat-1", "script": GRACEFUL}], "gate": [{"id": "gate-1", "script": GRACEFUL}]}),
        SETTINGS,
    );
    cluster.wait_for(&["chat-1", "gate-1"]);
    cluster
}

#[test]
fn a5_a_pipe_is_obeyed_line_by_line() {
    let cluster = two_servers();
    let before = cluster.pid("gate-1");
    let done = run_with_input(
        shell(&cluster, &[]),
        "# what an operator keeps in a file\n\nlist\nuse chat-1 # one of them\nstop chat-1\nuse all\nrestart gate-1\n\
         disable module __masterwatcher__\nenable module __masterwatcher__\nmodules\n\
         request __console__ {\"signal\": \"list\"}\nquit\nstop all\n",
    );
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(!done.out.contains("pomelo :"), "a pipe is shown no prompt: {}", done.out);
    assert!(
        done.out.lines().all(|line| line.starts_with('{') || line.trim_end().chars().count() <= 80),
        "{}",
        done.out
    );
    for said in ["SERVERID", "stopped: chat-1\n", "restarted\n", "__masterwatcher__"] {
        let said = said.replace("SERVERID", "ID ");
        assert!(done.out.contains(&said), "{said} is not in {}", done.out);
    }
    let answer: Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
    assert!(answer["msg"]["gate-1"].is_object(), "{answer}");
    // What it says it has done, it has; and after `quit` nothing.
    let listed = cluster.wait_for(&["gate-1"]);
    assert_ne!(pid(&listed, "gate-1"), before);
}

#[test]
fn the_fleet_is_seen_and_drained_from_the_shell() {
    let cluster = two_servers();
    let commands =
        "stop chat-1\nshow servers\nuse chat-1\ndescribe\nuse all\ndrain type gate\ndescribe gate-1\njobs\njobs 2\n";
    let done = run_with_input(shell(&cluster, &[]), commands);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let line = |begins: &str, has: &str| {
        let found = done.out.lines().any(|line| line.starts_with(begins) && line.contains(has));
        assert!(found, "no line {begins} … {has} in {}", done.out);
    };
    line("chat-1 ", "stopped");
    line("gate-1 ", "running");
    line("drained: gate-1", "");
    line("state", "stopped");
    line("wanted", "down by admin");
    line("job 2: stop by admin", "done");
    assert!(done.out.lines().any(|line| line.contains(" drain ") && line.contains(" done ")), "{}", done.out);
    let json = run_with_input(shell(&cluster, &["--json"]), "describe gate-1\njobs\n");
    let lines: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["server"]["state"], "stopped");
    assert_eq!(lines[1][0]["kind"], "drain");
    // What is not meant is said with the forms of the command.
    for (wrong, why) in
        [("drain", "`all`"), ("undrain", "which servers"), ("jobs x", "a number"), ("describe", "use <serverId>")]
    {
        let done = run_with_input(shell(&cluster, &[]), &format!("{wrong}\n"));
        assert_eq!((done.code, done.err.contains(why)), (Some(2), true), "{wrong}: {done:?}");
    }
    let done = run_with_input(shell(&cluster, &[]), "undrain nobody\n");
    assert_eq!((done.code, done.err.contains("nobody")), (Some(1), true), "{done:?}");
}

#[test]
fn a5_the_exit_code_tells_whether_any_command_failed() {
    let cluster = two_servers();
    let fails: [(&str, i32, &str); 12] = [
        ("use nobody", 1, "no server nobody"),
        ("get key", 2, "use <serverId>"),
        ("lst", 2, "`list`"),
        ("set 'a", 2, "column 5"),
        ("set key", 2, "usage: set <key> <value>"),
        ("stop nobody", 1, "no such server"),
        ("disable module nobody", 1, "no module nobody"),
        ("restart type nothing", 1, "type `nothing`"),
        ("exec /nowhere/script", 2, "use <serverId>"),
        ("use chat-1\nexec /nowhere/script", 1, "/nowhere/script"),
        ("use chat-1\ndump memory /nowhere/dump", 1, "no directory /nowhere"),
        ("request nobody", 1, "nobody"),
    ];
    for (commands, code, why) in fails {
        // What follows is run all the same, and does not mend the code.
        let done = run_with_input(shell(&cluster, &[]), &format!("{commands}\nhelp stop\n"));
        assert_eq!(done.code, Some(code), "{commands}: {done:?}");
        let line = format!("pomelo: line {}: ", commands.lines().count());
        assert!(done.err.starts_with(&line) && done.err.to_lowercase().contains(&why.to_lowercase()), "{}", done.err);
        assert!(done.out.contains("stop <serverId>"), "{commands}: {done:?}");
    }
    let guest = run_with_input(shell(&cluster, &["-u", "monitor", "-p", "monitor"]), "list\nstop chat-1\nlist\n");
    assert_eq!((guest.code, guest.out.matches("chat-1").count()), (Some(1), 2), "{guest:?}");
    assert!(guest.err.contains("line 2") && guest.err.contains("needs level 1"), "{}", guest.err);
    let stranger = run_with_input(shell(&cluster, &["-p", "wrong"]), "list\n");
    assert_eq!((stranger.code, stranger.out.as_str()), (Some(4), ""), "{stranger:?}");
    let json = run_with_input(shell(&cluster, &["--json"]), "list\n");
    assert!(serde_json::from_str::<Value>(&json.out).unwrap()["msg"]["chat-1"].is_object(), "{json:?}");
    let nobody = run_with_input(pomelo(&["shell", &format!("--port={}", free_ports::<1>()[0])]), "list\n");
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
}

/// A shell on a terminal of its own, and the hands on its keys.
pub struct Operator {
    terminal: PtySession,
    /// What was to be seen, line by line, without what only steers the terminal.
    pub transcript: String,
}

impl Operator {
    pub fn at(mut command: Command) -> Operator {
        command.env("TERM", "xterm").stdin(Stdio::inherit());
        Operator { terminal: spawn_command(command, Some(60_000)).unwrap(), transcript: String::new() }
    }

    pub fn prompt(&mut self, context: &str) -> &mut Self {
        let prompt = format!("admin@pomelo : {context}> ");
        self.sees(&prompt);
        self.transcript.push_str(&prompt);
        self
    }

    fn sees(&mut self, text: &str) -> &mut Self {
        self.terminal.exp_string(text).unwrap();
        self
    }

    fn types(&mut self, keys: &str) -> &mut Self {
        self.terminal.send(keys).unwrap();
        self.terminal.flush().unwrap();
        self
    }

    /// Types a line and waits for what comes of it, up to the next prompt or question.
    pub fn enter(&mut self, line: &str) -> String {
        self.types(line).types(ENTER).sees(LEFT);
        let said = self.terminal.exp_string(ENTERED).unwrap().replace('\r', "");
        self.transcript.extend([line, &said]);
        said
    }

    /// Types a line that is asked about, and says yes.
    pub fn enter_and_confirm(&mut self, line: &str) -> String {
        self.enter(line);
        let question = self.terminal.exp_string(QUESTION).unwrap();
        // The line editor has put the cursor to the line's start, and then the question.
        self.transcript.extend([question.rsplit(['\r', '\u{1b}']).next().unwrap().trim_start_matches("[K"), QUESTION]);
        self.enter("yes")
    }

    /// Leaves, and waits for the shell's end.
    pub fn leave(&mut self) {
        self.types(CTRL_D).ended();
    }

    fn ended(&mut self) {
        self.terminal.exp_eof().unwrap();
    }
}

const QUESTION: &str = "[yes/no] ";
const TAB: &str = "\t";
const ENTER: &str = "\r";
const UP: &str = "\u{1b}[A";
const CTRL_C: &str = "\u{3}";
/// What the line editor sends when it gives the terminal back.
const LEFT: &str = "\u{1b}[?2004l";
/// And when it takes it.
const ENTERED: &str = "\u{1b}[?2004h";
const CTRL_D: &str = "\u{4}";

#[test]
fn a5_an_operator_types_with_context_completion_and_history() {
    let cluster = two_servers();
    let mut operator = Operator::at(shell(&cluster, &[]));
    operator.prompt("all").types("us").types(TAB).sees("use ").types("ga").types(TAB).sees("gate-1").types(ENTER);
    operator.prompt("gate-1").types("list").types(ENTER).sees("chat-1").prompt("gate-1");
    // Where several words fit, they are shown.
    operator.types("enable ").types(TAB).types(TAB).sees("app").sees("module").types(CTRL_C).sees(LEFT);
    // It asks before it stops anything, and no means no.
    operator.prompt("gate-1").types("stop chat-1\r").sees("[yes/no] ").types("no\r").prompt("gate-1");
    assert_eq!(cluster.wait_for(&["chat-1", "gate-1"])["chat-1"]["restarts"], 0);
    operator.types("get\r").sees("usage: get <key>").prompt("gate-1").types("use all\r").prompt("all");
    operator.leave();

    // Another day, the history is there: the last command first, and none twice.
    assert!(Path::new(&cluster.path("history")).exists());
    let mut operator = Operator::at(shell(&cluster, &[]));
    operator.prompt("all").types(UP).sees("use all").types(UP).sees("get").types(UP).sees("stop chat-1").types(ENTER);
    operator.sees("[yes/no] ").types("yes\r").sees("stopped: chat-1").prompt("all").types("quit\r").ended();
    cluster.wait_for(&["gate-1"]);
    let history = std::fs::read_to_string(cluster.path("history")).unwrap();
    assert!(!history.lines().any(|line| ["yes", "no"].contains(&line)), "answers are no commands: {history}");
}

#[test]
fn a5_ctrl_c_abandons_a_command_and_a_lost_master_is_found_again() {
    let mut cluster = two_servers();
    let mut operator = Operator::at(shell(&cluster, &[]));
    operator.prompt("all").types("use chat-1\r").prompt("chat-1");
    let silent = Stopped::new(cluster.hosts[0].pid());
    // Before the line editor has left the terminal, the key would be one of its own.
    operator.types("modules\r").sees(LEFT);
    operator.types(CTRL_C).sees("abandoned").prompt("chat-1");
    drop(silent);
    operator.types("modules\r").sees("__console__").prompt("chat-1");

    cluster.hosts.clear();
    operator.types("modules\r").sees("master").prompt("chat-1");
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1", "gate-1"]);
    operator.types("list\r").sees("gate-1").prompt("chat-1").leave();
}

#[test]
fn a5_events_and_logs_are_shown_and_followed_until_ctrl_c() {
    let script = "echo ready to serve; exec sleep 1000";
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let done = run_with_input(shell(&cluster, &[]), "events\nlogs chat-1\nuse chat-1\nlogs -n 5\n");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.contains("chat-1") && done.out.contains("join"), "{}", done.out);
    assert_eq!(done.out.matches("ready to serve").count(), 2, "{}", done.out);
    let wrong = run_with_input(shell(&cluster, &[]), "logs\n");
    assert_eq!((wrong.code, wrong.err.contains("use <serverId>")), (Some(2), true), "{wrong:?}");

    let mut operator = Operator::at(shell(&cluster, &[]));
    operator.prompt("all").types("logs chat-1 -f\r").sees("ready to serve");
    send(cluster.pid("chat-1"), Signal::SIGKILL);
    // The program that was started instead.
    operator.sees("ready to serve").types(CTRL_C).prompt("all");
    operator.types("events -f\r").sees("restart").types(CTRL_C).prompt("all");
    operator.types("list\r").sees("chat-1").prompt("all").leave();
}

#[test]
fn a5_an_operator_on_a_terminal_is_asked_before_everything_is_stopped() {
    let mut cluster = two_servers();
    let stop = |cluster: &Cluster, answer: &str| {
        let mut command = pomelo(&["stop", &format!("--port={}", cluster.port)]);
        command.stdin(Stdio::inherit());
        let mut terminal = spawn_command(command, Some(60_000)).unwrap();
        terminal.exp_string("This will stop all servers and the master. Go on? [yes/no]").unwrap();
        terminal.send_line(answer).unwrap();
        terminal.exp_eof().unwrap()
    };
    assert!(stop(&cluster, "no").contains("nothing was done"));
    cluster.wait_for(&["chat-1", "gate-1"]);
    assert!(stop(&cluster, "yes").contains("stopped: chat-1, gate-1, master"));
    cluster.hosts[0].ended();
}
