//! The envelope: parsing received messages and writing sent ones.
//!
//! `cargo bench -p pomelo-host --bench envelope`

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use pomelo_host::wire::{Message, Request, Response, raw};

fn envelope(criterion: &mut Criterion) {
    let body = support::question();
    let request = raw(&Request { req_id: 4711, module_id: "__console__", body: Some(&body), depth: 1, trace: None });
    let mut group = criterion.benchmark_group("envelope");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| matches!(Message::parse(black_box(&request)), Ok(Message::Request { .. })));
    });
    group.bench_function("write request", |bencher| {
        bencher.iter(|| {
            raw(&Request {
                req_id: black_box(4711),
                module_id: "__console__",
                body: Some(&body),
                depth: 1,
                trace: None,
            })
        });
    });
    let Ok(Message::Request { id, .. }) = Message::parse(&request) else { panic!("it is a request") };
    let outcome = Ok(body.clone());
    group.bench_function("write response", |bencher| bencher.iter(|| raw(&Response::new(black_box(&id), &outcome))));
    group.finish();
}

criterion_group!(benches, envelope);
criterion_main!(benches);
