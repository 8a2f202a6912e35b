//! A warm call into a module, beside a native handler that does the same: parses a message of some 200 bytes and answers with it.
//!
//! `cargo bench -p pomelo-host --bench call`. Only ratios within one run count. valgrind cannot run it, because the engine reserves more address
//! space than valgrind allows.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pomelo_host::console::{Console, Inbound, Reply, Settings};
use pomelo_host::plugin::capability::Services;
use pomelo_host::plugin::{
    Call, Caller, CallerRole, Compiled, Context, Engine, EngineLimits, Grants, Handler, HostRole, Identity, Limits,
    Module, Neighbours, Store, StoreView,
};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

fn identity() -> Identity {
    Identity { role: HostRole::Master, server_id: "master".into(), server_type: "master".into() }
}

fn caller() -> Arc<Caller> {
    Arc::new(Caller { id: Some("bench".into()), level: Some(1), ..Caller::of(CallerRole::Client) })
}

fn engine() -> Engine {
    Engine::new(EngineLimits { total_instances: 64, ..EngineLimits::default() }, None).expect("an engine")
}

fn module(runtime: &Runtime) -> Arc<Module> {
    let engine = engine();
    let compiled = runtime.block_on(Compiled::new(&engine, support::echo().bytes)).expect("a component");
    Arc::new(Module::new(&engine, "echo", &compiled, Limits::default()).expect("a module"))
}

/// No other modules.
struct Alone;

impl Neighbours for Alone {
    fn ids(&self) -> Vec<String> {
        Vec::new()
    }

    fn store(&self, _: &str) -> Option<Arc<Store>> {
        None
    }
}

fn context() -> Arc<Context> {
    Arc::new(Context::new(
        "echo",
        Arc::new(identity()),
        Arc::new(Services::default()),
        "{}".into(),
        Grants::default(),
        Arc::new(Store::new(1 << 20)),
        Arc::new(Alone),
    ))
}

fn console(runtime: &Runtime) -> Console {
    let console =
        Console::new(engine(), identity(), Services::default(), Settings::default()).expect("no store is on the disk");
    runtime.block_on(console.install(support::echo())).expect("a module");
    console
}

fn calls(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let question = support::question();
    let mut group = criterion.benchmark_group("call");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));

    group.bench_function("native", |bencher| bencher.iter(|| support::native(black_box(&question))));

    let (module, context, caller) = (module(&runtime), context(), caller());
    group.bench_function("lease", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let call = Call {
                context: context.clone(),
                caller: caller.clone(),
                operations: None,
                msg: Some(question.clone()),
                wants_answer: true,
                depth: 0,
                deadline: Instant::now() + Duration::from_secs(10),
                store: StoreView::direct(context.store.clone()),
            };
            let lease = module.lease();
            async move { lease.call(Handler::Client, call).await.expect("an answer") }
        });
    });

    let console = console(&runtime);
    group.bench_function("console", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let (done, answer) = oneshot::channel();
            let inbound = Inbound {
                handler: Handler::Client,
                module: "echo",
                body: Some(&question),
                caller: caller.clone(),
                wants_answer: true,
                depth: 0,
                trace: None,
            };
            console.dispatch(inbound, Reply::new(move |outcome| drop(done.send(outcome))));
            async move { answer.await.expect("a reply").expect("an answer") }
        });
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
