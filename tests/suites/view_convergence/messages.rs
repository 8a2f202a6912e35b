//! The messages of W1 to W4, one at a time; and when a master lets monitors in (S1).

use std::sync::Arc;
use std::time::Duration;

use pomelo_host::journal::{Event, kind};
use pomelo_host::master::Master;
use pomelo_host::wire::{Phase, PhaseName};

use crate::fleet::{Fleet, MASTER, MemoryApplication};
use crate::settles;
use crate::tcp_table::{Connection, connections};

/// The kind of the event with which a test marks the moment at which it lets a master's modules run.
const OPENED: &str = "test-opened";

/// A fleet whose watchdog's timer never fires, so that views change by messages alone.
fn without_timer() -> Fleet {
    Fleet { event_window: Duration::from_millis(10), ..Fleet::new(128).watchdog_interval(3600.0) }
}

fn knows(application: &MemoryApplication, wanted: &[&str]) -> Result<(), String> {
    application.view(|view| {
        let known: Vec<&str> = view.keys().map(|id| &**id).collect();
        if known == wanted { Ok(()) } else { Err(format!("it knows {known:?} instead of {wanted:?}")) }
    })
}

async fn all_know(what: &str, all: &[&Arc<MemoryApplication>], wanted: &[&str]) {
    settles(what, || all.iter().try_for_each(|application| knows(application, wanted))).await;
}

/// How often the watchdog's `masterHandler` was called.
fn master_calls(master: &Master) -> u64 {
    let [console, _] = master.consoles();
    let watchdog = console.modules().into_iter().find(|module| module.id == "__masterwatcher__").expect("the watchdog");
    watchdog.stats.get("master-handler").map_or(0, |stats| stats.calls)
}

async fn end(master: Master) {
    master.shut_down(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_w2_w3_members_are_told_who_comes_goes_and_comes_back() {
    let fleet = without_timer();
    let (master, own) = fleet.master(0).await;
    let a = fleet.monitor("a", "chat", 4001, master.address()).await;
    all_know("the answer to `subscribe`", &[&own, &a.application], &["a", MASTER]).await;
    let first = a.application.counts();
    assert_eq!(first.removed, 0);
    assert!(first.replaced > 0, "the first table comes as a whole");

    let b = fleet.monitor("b", "chat", 4002, master.address()).await;
    all_know("`addServer`", &[&own, &a.application, &b.application], &["a", "b", MASTER]).await;
    let second = a.application.counts();
    assert_eq!(second.removed, 0);
    assert!(second.changes() > first.changes(), "the one that was there is told");

    // Its program ends, and runs again: the others see it go and come, it is given what it has missed.
    b.phase.send_replace(Phase::new(PhaseName::Starting));
    all_know("`removeServer`", &[&own, &a.application], &["a", MASTER]).await;
    let (before, of_b) = (a.application.counts(), b.application.counts());
    b.phase.send_replace(Phase::running(77));
    all_know("the return", &[&own, &a.application, &b.application], &["a", "b", MASTER]).await;
    let again = b.application.counts();
    assert_eq!(again.replaced, of_b.replaced, "it has missed less than half of the table");
    assert!(again.changes() > of_b.changes());
    assert_eq!(a.application.counts().replaced, before.replaced, "the others get `addServer`");
    assert!(a.application.view(|view| view["b"].contains(r#""pid":77"#)));

    b.monitor.shut_down(Duration::from_secs(1)).await;
    all_know("the end", &[&own, &a.application], &["a", MASTER]).await;
    a.monitor.shut_down(Duration::ZERO).await;
    end(master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_after_a_restart_of_the_master_all_are_told_again() {
    let fleet = without_timer();
    let (master, _) = fleet.master(0).await;
    let address = master.address();
    let a = fleet.monitor("a", "chat", 4001, address).await;
    let b = fleet.monitor("b", "chat", 4002, address).await;
    all_know("the first master", &[&a.application, &b.application], &["a", "b", MASTER]).await;

    end(master).await;
    let (master, own) = fleet.master(address.port()).await;
    all_know("the second master", &[&own, &a.application, &b.application], &["a", "b", MASTER]).await;
    let c = fleet.monitor("c", "chat", 4003, address).await;
    all_know("a newcomer", &[&own, &a.application, &b.application, &c.application], &["a", "b", "c", MASTER]).await;
    // The second master knows the revisions of all: nobody's view is given up for a message in pomelo's form.
    let before = [&a, &b].map(|node| node.application.counts().replaced);
    c.monitor.shut_down(Duration::from_secs(1)).await;
    all_know("one that left", &[&own, &a.application, &b.application], &["a", "b", MASTER]).await;
    assert_eq!([&a, &b].map(|node| node.application.counts().replaced), before);
    for node in [a, b] {
        node.monitor.shut_down(Duration::ZERO).await;
    }
    end(master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_once_all_configured_servers_have_started_every_listener_is_told() {
    let fleet = Fleet { configured: vec!["a".into(), "b".into()], ..without_timer() };
    let (master, own) = fleet.master(0).await;
    let a = fleet.monitor("a", "chat", 4001, master.address()).await;
    let extra = fleet.monitor("not-configured", "chat", 4009, master.address()).await;
    all_know("two of them", &[&own, &a.application, &extra.application], &["a", MASTER, "not-configured"]).await;
    let started = |application: &MemoryApplication| application.counts().started_over;
    // Each of the three has asked for the table and then said that it has started. What one who comes after that is told, all are told after
    // whatever came of it.
    settles("all have said that they have started", || match master_calls(&master) {
        calls if calls >= 6 => Ok(()),
        calls => Err(format!("the watchdog's `masterHandler` was called {calls} times")),
    })
    .await;
    let late = fleet.monitor("late", "chat", 4008, master.address()).await;
    all_know("one more", &[&own, &a.application, &extra.application], &["a", "late", MASTER, "not-configured"]).await;
    assert_eq!(
        [&*own, &a.application, &extra.application].map(started),
        [0; 3],
        "one of the configured servers is missing still"
    );

    let b = fleet.monitor("b", "chat", 4002, master.address()).await;
    let all = [&*own, &a.application, &b.application, &extra.application, &late.application];
    settles("`startOver`", || match all.map(started) {
        [1, 1, 1, 1, 1] => Ok(()),
        counts => Err(format!("told {counts:?} times")),
    })
    .await;
    for node in [a, b, extra, late] {
        node.monitor.shut_down(Duration::ZERO).await;
    }
    end(master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_the_port_is_taken_at_once_and_opened_when_the_modules_are_started() {
    let fleet = without_timer();
    let (master, own) = fleet.closed_master(0).await;
    assert!(std::net::TcpListener::bind(master.address()).is_err(), "a port that is taken is found early");
    let a = fleet.monitor("a", "chat", 4001, master.address()).await;
    // What the monitor has sent waits in the kernel, because the master has accepted nobody.
    settles("the monitor is at the door", || {
        let waits = connections(master.address().port()).iter().any(Connection::waits_to_be_accepted);
        if waits { Ok(()) } else { Err("no connection waits to be accepted".into()) }
    })
    .await;
    assert_eq!(master.members().count(), (0, 0), "not even the master's own monitor is let in");
    fleet.journal.record(Event::new(OPENED, "the modules are started"));
    master.run_modules().await;
    all_know("both", &[&own, &a.application], &["a", MASTER]).await;
    let events = fleet.journal.page(0).events;
    let first = |kind: &str| events.iter().position(|event| event.kind == kind).expect(kind);
    assert!(first(OPENED) < first(kind::JOIN), "nobody joined before: {events:?}");
    end(master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_told_what_each_server_does_and_others_see_only_those_that_serve() {
    let fleet = without_timer();
    let (master, own) = fleet.master(0).await;
    let a = fleet.monitor("a", "chat", 4001, master.address()).await;
    let b = fleet.monitor("b", "chat", 4002, master.address()).await;
    all_know("both", &[&own, &a.application], &["a", "b", MASTER]).await;
    let does = async |what: &str, wanted: &Phase| {
        settles(what, || {
            let said = master.members().phases().get("b").map(|phase| (**phase).clone());
            if said.as_ref() == Some(wanted) { Ok(()) } else { Err(format!("it is known as {said:?}")) }
        })
        .await;
    };
    does("a server that runs", &Phase::running(4002)).await;
    assert!(master.members().phases()[MASTER].phase == PhaseName::Running, "the master's own monitor says it too");

    // It stays seen until it has ended.
    let pid = Some(4002);
    let stopping = Phase { pid, ..Phase::new(PhaseName::Stopping) };
    b.phase.send_replace(stopping.clone());
    does("a server that is ending", &stopping).await;
    assert!(master.members().snapshot().servers.contains_key("b"));

    // One that drains is seen no more, and its monitor stays connected. Of many phases the last one counts.
    for left in (0..200).rev() {
        b.phase.send_replace(Phase { pid, connections: Some(left), ..Phase::new(PhaseName::Draining) });
    }
    does("a server that drains", &b.phase.borrow().clone()).await;
    all_know("the drain", &[&own, &a.application], &["a", MASTER]).await;
    let why = Some("ended with code 1".to_owned());
    let waits = Phase { why, restarts: 1, retry_ms: Some(200), ..Phase::new(PhaseName::BackingOff) };
    b.phase.send_replace(waits.clone());
    does("a server that waits", &waits).await;
    b.phase.send_replace(Phase { restarts: 2, ..Phase::running(4003) });
    does("a server that runs again", &Phase { restarts: 2, ..Phase::running(4003) }).await;
    all_know("the return", &[&own, &a.application], &["a", "b", MASTER]).await;

    // How it ended for good is told before the goodbye, and forgotten with the connection.
    b.phase.send_replace(Phase::new(PhaseName::Failed));
    b.monitor.shut_down(Duration::from_secs(1)).await;
    all_know("the end", &[&own, &a.application], &["a", MASTER]).await;
    settles("what was said is forgotten", || match master.members().phases().get("b") {
        None => Ok(()),
        Some(phase) => Err(format!("{phase:?}")),
    })
    .await;
    a.monitor.shut_down(Duration::ZERO).await;
    end(master).await;
}
