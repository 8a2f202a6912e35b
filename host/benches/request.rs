//! A client's request over loopback Socket.IO to the module `echo` of a master, beside a session of the same transport that answers without
//! any module. The difference is what the host and the module cost.
//!
//! `cargo bench -p pomelo-host --bench request`. Only ratios within one run count. The client runs in the same process.

#[path = "../../tests/support/fleet/mod.rs"]
mod fleet;
#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use pomelo_host::budget::Class;
use pomelo_host::client::AdminClient;
use pomelo_host::transport::listener::Options;
use pomelo_host::transport::{Accept, Ack, Closed, Listener, Peer, Session};
use pomelo_host::wire::{Message, Registered, Response, Topic, raw};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Answers every request itself.
struct Native(Peer);

impl Session for Native {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        let sent = match (topic, Message::parse(payload)) {
            ("register", _) => {
                // A master does the same, because who is not registered may send little, and has no place of its own.
                self.0.set_frame_limit(4 << 20);
                self.0.account().belongs_to(Class::Operator);
                self.0.registered(true).expect("there is a place");
                self.0.send(Topic::Register, raw(&Registered::ok(Vec::new())))
            }
            (_, Ok(Message::Request { id, body: Some(body), .. })) => {
                let outcome = Ok(support::native(body));
                self.0.send(Topic::Client, raw(&Response::new(&id, &outcome)))
            }
            _ => Ok(()),
        };
        sent.expect("the client reads");
    }

    fn closed(&self, _: Closed) {}
}

struct Natives;

impl Accept for Natives {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        Arc::new(Native(peer))
    }
}

async fn native() -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0", Options::default(), Arc::new(Natives), axum::Router::new());
    let listener = listener.await.expect("a listener");
    let address = listener.local_addr();
    tokio::spawn(listener.serve(CancellationToken::new()));
    address
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, name: &str, client: &AdminClient) {
    let question = support::question();
    for under_way in [1, 64] {
        group.throughput(Throughput::Elements(under_way));
        group.bench_function(format!("{name}, {under_way} in flight"), |bencher| {
            bencher.to_async(runtime).iter(|| {
                let requests = (0..under_way).map(|_| client.request("echo", &question));
                async { join_all(requests).await.into_iter().for_each(|answer| drop(answer.expect("an answer"))) }
            });
        });
    }
}

fn requests(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("request");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));

    let client = runtime.block_on(async { fleet::client(native().await).await });
    measure(&mut group, &runtime, "native", &client);

    let (master, _own) = runtime.block_on(fleet::Fleet::new(64).master(0));
    let [console, _] = master.consoles();
    runtime.block_on(console.install(support::echo())).expect("a module");
    let client = runtime.block_on(fleet::client(master.address()));
    measure(&mut group, &runtime, "module", &client);
    group.finish();
    runtime.block_on(master.shut_down(Duration::ZERO));
}

criterion_group!(benches, requests);
criterion_main!(benches);
