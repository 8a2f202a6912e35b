//! Profiles of modules and processes, in the Firefox Profiler's format.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pomelo_host::built_in::built_in;
use pomelo_host::console::ModuleSettings;
use pomelo_host::plugin::Limits;
use serde_json::{Value, json};

use crate::support::{Ask, Cluster, Plan, code_of, fixture, grants};

/// A cluster whose profiler has the limits that it wants, or an answer of that size.
async fn cluster(answer: Option<usize>) -> Cluster {
    let mut plan = Plan::with([("misbehave", fixture("misbehave"))]).say("misbehave", grants(&["cluster"]));
    plan.settings.built_in = built_in(true);
    if let Some(answer) = answer {
        let limits = Limits { answer, ..plan.settings.limits.clone() };
        plan = plan.say("profiler", ModuleSettings { limits: Some(limits), ..ModuleSettings::default() });
    }
    plan.start().await
}

/// Checks what a viewer reads first, and gives the samples of each thread by its name, with the names of all functions.
fn read(profile: &Value) -> (Vec<(String, u64)>, Vec<String>) {
    let meta = &profile["meta"];
    assert!(meta["preprocessedProfileVersion"].as_u64() >= Some(48), "{meta}");
    assert!(meta["interval"].as_f64() > Some(0.0), "{meta}");
    assert!(meta["startTime"].as_f64() > Some(1.6e12), "milliseconds since 1970: {meta}");
    assert!(meta["categories"].as_array().is_some_and(|categories| !categories.is_empty()));
    assert!(profile["libs"].is_array());
    let strings = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let mut names = strings(&profile["shared"]["stringArray"]);
    let mut threads = Vec::new();
    for thread in profile["threads"].as_array().expect("threads") {
        names.extend(strings(&thread["stringArray"]));
        let samples = &thread["samples"];
        let count = samples["length"].as_u64().expect("a number of samples");
        let stacks = samples["stack"].as_array().expect("a stack for each sample");
        assert_eq!(stacks.len() as u64, count);
        let known = thread["stackTable"]["length"].as_u64().expect("stacks");
        assert!(stacks.iter().all(|stack| stack.is_null() || stack.as_u64() < Some(known)), "every stack is known");
        assert_eq!(thread["stackTable"]["frame"].as_array().map(Vec::len), Some(known as usize));
        threads.push((thread["name"].as_str().unwrap_or_default().to_owned(), count));
    }
    (threads, names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_profiler_a_modules_profile_names_its_functions() {
    let cluster = cluster(None).await;
    let (client, other) = (cluster.admin().await, cluster.admin().await);
    let start = json!({"action": "start", "type": "module", "moduleId": "misbehave", "seconds": 0.5});
    let done = AtomicBool::new(false);
    let profile = async {
        let profile = client.ask("profiler", &start).await;
        done.store(true, Ordering::Relaxed);
        profile.unwrap()
    };
    let work = async {
        while !done.load(Ordering::Relaxed) {
            other.ask("misbehave", json!({"do": "work", "msg": 20})).await.unwrap();
        }
    };
    let (profile, ()) = tokio::join!(profile, work);
    let (threads, names) = read(&profile);
    assert_eq!(threads.len(), 1);
    assert!(threads[0].1 > 20, "half a second of work, looked at every millisecond: {threads:?}");
    assert!(names.iter().any(|name| name.contains("work_hard")), "{names:?}");
    // What is asked while no profile is made leaves none.
    let idle =
        client.ask("profiler", json!({"action": "start", "type": "module", "moduleId": "misbehave", "seconds": 0.05}));
    assert_eq!(read(&idle.await.unwrap()).0[0].1, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_profiler_makes_one_profile_at_a_time_and_none_without_bounds() {
    let cluster = cluster(None).await;
    let server = cluster.server("chat-1", "chat").await;
    let client = cluster.admin().await;
    let of_module = |seconds: f64| json!({"action": "start", "type": "module", "serverId": "chat-1", "moduleId": "misbehave", "seconds": seconds});
    let (one, two) = tokio::join!(client.ask("profiler", of_module(0.5)), client.ask("profiler", of_module(0.5)));
    let mut codes = [code_of(&one), code_of(&two)];
    codes.sort_unstable();
    assert_eq!(codes, ["busy", "no failure"]);
    for seconds in [0.0, -1.0, 61.0, 1e30] {
        assert_eq!(code_of(&client.ask("profiler", of_module(seconds)).await), "bad-message", "{seconds}");
    }
    let ask = async |message: Value| code_of(&client.ask("profiler", message).await).to_owned();
    let unknown = json!({"action": "start", "type": "module", "moduleId": "nothing"});
    assert_eq!(ask(unknown).await, "unknown-module");
    assert_eq!(ask(json!({"action": "start", "type": "heap"})).await, "not-available");
    assert_eq!(ask(json!({"action": "start"})).await, "bad-message");
    assert_eq!(ask(json!({"action": "stop", "type": "CPU"})).await, "bad-message");
    assert_eq!(client.ask("profiler", json!({"action": "list"})).await.unwrap(), json!(["chat-1", "master-1"]));
    let viewer = cluster.viewer().await;
    assert_eq!(code_of(&viewer.ask("profiler", of_module(0.1)).await), "forbidden");
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_profiler_a_profile_that_is_too_large_is_refused_with_its_size() {
    let cluster = cluster(Some(1 << 10)).await;
    let client = cluster.admin().await;
    let start = json!({"action": "start", "type": "module", "moduleId": "misbehave", "seconds": 0.01});
    let failure = client.ask("profiler", start).await.unwrap_err();
    assert_eq!(failure.code, "bad-answer");
    assert!(failure.message.contains("at most 1024") && failure.message.contains("shorter time"), "{failure}");
    cluster.stop().await;
}

/// Work with a name, for the process to be busy with.
#[inline(never)]
fn busy_for_the_profile(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::hint::black_box(());
    }
}

/// Whether the system lets this user profile this process. Other tests' threads come and go, of which `perf` may miss one and give up.
fn perf_works() -> bool {
    (0..10).any(|_| perf_works_once())
}

fn perf_works_once() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let pid = std::process::id().to_string();
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-g", "-F", "99", "-p", &pid, "-o"]).arg(directory.path().join("perf.data"));
    perf.args(["--", "sleep", "0.01"]).output().is_ok_and(|done| done.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_profiler_shows_what_a_busy_process_does_or_says_why_not() {
    let cluster = cluster(None).await;
    let client = cluster.admin().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let busy = std::thread::Builder::new().name("busy thread".into()).spawn(move || busy_for_the_profile(&stopped));
    let works = perf_works();
    let profile = client.ask("profiler", json!({"action": "start", "type": "CPU", "seconds": 0.5})).await;
    stop.store(true, Ordering::Relaxed);
    busy.unwrap().join().unwrap();
    if works {
        let (threads, names) = read(&profile.unwrap());
        let busy = threads.iter().find(|(name, _)| name == "busy thread").expect("the thread");
        assert!(busy.1 > 20, "499 samples a second of a thread that has its share of a core: {threads:?}");
        assert!(names.iter().any(|name| name.contains("busy_for_the_profile")), "{names:?}");
    } else {
        let failure = profile.unwrap_err();
        assert_eq!(failure.code, "not-available");
        assert!(failure.message.contains("perf"), "{failure}");
    }
    cluster.stop().await;
}
