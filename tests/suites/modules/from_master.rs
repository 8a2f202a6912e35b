//! Modules from a master that does not tell the truth: a monitor writes nothing but what it was promised, and nowhere but where it should.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pomelo_host::exchange::Exchange;
use pomelo_host::monitor::supervised::OwnProcess;
use pomelo_host::monitor::{self, FromMaster, FromMasterOptions, Monitor};
use pomelo_host::plugin::capability::Services;
use pomelo_host::transport::{Accept, Ack, Closed, Peer, Session};
use pomelo_host::versions::digest_of;
use pomelo_host::wire::{
    FileVersion, Message, ModulesRequest, OFFER, Offer, Offers, Part, Registered, Running, Topic, null, raw,
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// A master that offers files, and sends the same bytes for each of them.
struct Master {
    offers: Offers,
    bytes: &'static [u8],
    /// What the monitor says that it runs.
    said: mpsc::UnboundedSender<Vec<Running>>,
}

struct Connection {
    master: Arc<Master>,
    peer: Peer,
    exchange: Exchange,
}

struct Gate(Arc<Master>);

impl Accept for Gate {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        let exchange = Exchange::new(peer.clone(), Topic::Monitor, 16);
        Arc::new(Connection { master: self.0.clone(), peer, exchange })
    }
}

impl Session for Connection {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        if Topic::parse(topic) == Some(Topic::Register) {
            self.peer.send(Topic::Register, raw(&Registered::ok(Vec::new()))).unwrap();
            self.exchange.command(OFFER, None, &raw(&self.master.offers)).unwrap();
            return;
        }
        let Ok(Message::Request { id, module, body: Some(body), .. }) = Message::parse(payload) else { return };
        if module != "__modules__" {
            return;
        }
        let answer = match serde_json::from_str(body.get()).unwrap() {
            ModulesRequest::Get { .. } => {
                let size = self.master.offers.files[0].version.as_ref().unwrap().size;
                raw(&Part { size, data: BASE64_STANDARD.encode(self.master.bytes).into() })
            }
            ModulesRequest::Runs(runs) => {
                // The test may be over.
                let _ = self.master.said.send(runs);
                null().to_owned()
            }
        };
        self.exchange.reply(Some(id), None)(Ok(answer));
    }

    fn closed(&self, _: Closed) {}
}

fn offer(name: &str, digest: &str, size: usize) -> Offer {
    Offer { name: name.into(), version: Some(FileVersion { digest: digest.into(), size: size as u64 }) }
}

/// What a monitor says that it runs which is offered that, once it says why it runs none of it. Its data is in `root`.
async fn refused(root: &Path, files: Vec<Offer>, bytes: &'static [u8]) -> Vec<Running> {
    let (said, mut told) = mpsc::unbounded_channel();
    let master = Arc::new(Master { offers: Offers { files }, bytes, said });
    let options = FromMasterOptions {
        directory: root.join("own/modules"),
        shared: root.join("shared"),
        local: None,
        max_file: 1 << 20,
    };
    let plan = Plan::default();
    let options = monitor::Options {
        id: "chat-1".into(),
        server_type: "chat".into(),
        from_master: Some(Arc::new(FromMaster::new(options).unwrap())),
        ..monitor::Options::default()
    };
    let own = Arc::new(OwnProcess::new("chat-1", "chat", CancellationToken::new()));
    let services = Services { application: Some(own.application()), process: Some(own), ..Services::default() };
    let monitor = Monitor::new(options, services, engine(&plan.engine), plan.settings).await.unwrap();
    let stop = CancellationToken::new();
    let _following = follow(&root.join("own/modules"), vec![monitor.console().clone()], &stop).await;
    monitor.join_in_memory(Arc::new(Gate(master)));
    let why = async {
        loop {
            let runs = told.recv().await.unwrap();
            if runs.iter().any(|running| running.refused.is_some()) {
                return runs;
            }
        }
    };
    let runs = soon("why it runs nothing", why).await;
    stop.cancel();
    monitor.shut_down(GENEROUS).await;
    runs
}

/// The names of all modules below a directory.
fn modules(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(modules(&path)),
            path if path.extension().is_some_and(|ending| ending == "wasm") => found.push(path.display().to_string()),
            _ => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_monitor_takes_nothing_from_its_master_but_what_was_promised() {
    let good: &[u8] = b"what is promised";
    let digest = digest_of(good);
    let cases: [(usize, &'static [u8], &str); 4] = [
        (good.len(), b"what is promisee", "has another digest than it said"),
        (good.len(), b"what is promised, and more", "a part of the file is not what was asked for"),
        (good.len(), b"", "a part of the file is not what was asked for"),
        (9 << 20, b"", "raise `file_mib` under [modules] in pomelo.toml"),
    ];
    for (size, bytes, why) in cases {
        let dir = tempfile::tempdir().unwrap();
        let runs = refused(dir.path(), vec![offer("echo", &digest, size)], bytes).await;
        let said = runs[0].refused.as_deref().unwrap();
        assert!(said.contains(why) && runs[0].digest.is_none(), "{said}");
        assert_eq!(modules(dir.path()), [""; 0], "{why}");
    }
    // What is promised is no module: it is written, and refused as a local file would be. No name leads out of the directory.
    let dir = tempfile::tempdir().unwrap();
    let files = ["echo", "../echo", "/tmp/echo", ".echo"].map(|name| offer(name, &digest, good.len()));
    let evil = ["../../local/echo", "/tmp/echo"].map(|digest| offer("other", digest, good.len()));
    let runs = refused(dir.path(), [files.to_vec(), evil.to_vec()].concat(), good).await;
    assert_eq!(runs.len(), 1, "what cannot be taken is left out: {runs:?}");
    assert!(runs[0].refused.as_deref().unwrap().contains("it is not a WebAssembly file"), "{runs:?}");
    let mut found = modules(dir.path());
    found.sort();
    let at = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(found, [at("own/modules/echo.wasm"), at(&format!("shared/{digest}.wasm"))]);
}
