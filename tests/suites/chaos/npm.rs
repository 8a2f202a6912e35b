//! npm's pomelo-admin, unmodified, as a client that asks without pause.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// A process that asks until it is told to end.
pub struct Npm(Child);

impl Npm {
    /// Starts to ask the master at that port.
    pub fn start(port: u16) -> Npm {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/js/pomelo_asking.js");
        let mut command = Command::new("node");
        command.arg(script).arg(port.to_string()).env("NODE_NO_WARNINGS", "1").kill_on_drop(true);
        Npm(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Node is installed"))
    }

    /// Has it end when its last request is answered. Gives what was wrong.
    pub async fn end(mut self) -> Vec<String> {
        drop(self.0.stdin.take());
        let mut said = String::new();
        let read = self.0.stdout.as_mut().expect("it is piped").read_to_string(&mut said);
        if tokio::time::timeout(crate::asking::PATIENCE, read).await.is_err() {
            return vec![format!("npm's client has no answer after {:?}", crate::asking::PATIENCE)];
        }
        let figures: Value = said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        println!("npm's client: {figures}");
        let all = figures["asked"].as_u64().filter(|asked| *asked > 0);
        let good = all.is_some() && figures["answered"] == figures["asked"] && figures["surplus"] == 0;
        let none_wrong = figures["wrong"].as_array().is_some_and(Vec::is_empty);
        if good && none_wrong { Vec::new() } else { vec![format!("npm's client: {said}")] }
    }
}
