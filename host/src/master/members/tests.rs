use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::member::MAX_SLAVES;
use super::*;
use crate::console::{Batch, EventSource};
use crate::exchange::Exchange;
use crate::master::events::TableEvents;
use crate::transport::{Outbox, Transport};
use crate::wire::{Capabilities, PhaseName, Topic};

fn member(id: &str, port: u16) -> (Member, Outbox) {
    let (peer, outbox) = Peer::new(Transport::SocketIo, None, 8, usize::MAX);
    let info = Info::from_iter([("host".into(), "h".into()), ("port".into(), port.into())]);
    let exchange = Exchange::new(peer, Topic::Monitor, 8);
    (Member::new(id.into(), "chat".into(), info, exchange, Capabilities::default(), false), outbox)
}

fn nobody(grace: Duration) -> Arc<Members> {
    Arc::new(Members::new(grace, MassLoss::default(), Journal::new(100)))
}

fn port(members: &Members, id: &str) -> Option<Value> {
    members.snapshot().servers.get(id).map(|entry| entry.info["port"].clone())
}

#[tokio::test(start_paused = true)]
async fn r4_the_oldest_slave_takes_the_place_of_a_primary_that_leaves() {
    let members = nobody(Duration::ZERO);
    let [(first, _a), (second, _b), (third, _c)] = [1, 2, 3].map(|port| member("s", port));
    let connections = [first.connection(), second.connection(), third.connection()];
    for member in [first, second, third] {
        members.join(member).unwrap();
    }
    assert_eq!((members.snapshot().rev, port(&members, "s")), (1, Some(1.into())), "slaves are not seen");
    assert_eq!(members.resolve(&["s@h:3".into()]).0.len(), 1, "a slave has an address");
    members.leave("s", connections[0], false);
    assert_eq!((members.snapshot().rev, port(&members, "s")), (2, Some(2.into())));
    members.leave("s", connections[2], false);
    assert_eq!(members.snapshot().rev, 2, "a slave that leaves is not seen");
    members.leave("s", connections[1], false);
    assert_eq!((members.snapshot().rev, port(&members, "s")), (3, None));
}

#[tokio::test(start_paused = true)]
async fn r4_an_id_belongs_to_one_type_of_server() {
    let members = nobody(Duration::ZERO);
    let (first, _a) = member("s", 1);
    let connection = first.connection();
    members.join(first).unwrap();
    for port in [1, 2] {
        let (other, _b) = member("s", port);
        let refusal = members.join(Member { server_type: "gate".into(), ..other }).unwrap_err();
        assert_eq!(refusal, JoinError::Type("chat".into()));
    }
    members.leave("s", connection, false);
    let (other, _c) = member("s", 2);
    members.join(Member { server_type: "gate".into(), ..other }).unwrap();
}

#[tokio::test(start_paused = true)]
async fn r4_one_more_slave_than_there_is_room_for_is_not_admitted() {
    let members = nobody(Duration::ZERO);
    for port in 0..=17 {
        let (member, _outbox) = member("s", port);
        let admitted = members.admits(&member);
        assert_eq!(admitted.is_ok(), usize::from(port) <= MAX_SLAVES, "{port}");
        assert_eq!(members.join(member), admitted);
    }
}

#[tokio::test(start_paused = true)]
async fn r4_the_same_address_replaces_the_connection_that_is_there() {
    let members = nobody(Duration::ZERO);
    let (old, old_outbox) = member("s", 1);
    let (new, _outbox) = member("s", 1);
    let old_connection = old.connection();
    members.join(old).unwrap();
    members.join(new).unwrap();
    assert!(old_outbox.cut.is_cancelled());
    members.leave("s", old_connection, true);
    assert_eq!((members.snapshot().rev, members.count()), (2, (1, 0)), "the old one's end changes nothing");
}

#[tokio::test(start_paused = true)]
async fn w5_a_connection_that_is_back_within_its_grace_is_no_change_of_who_is_there() {
    let members = nobody(Duration::from_millis(20));
    let (old, _old) = member("s", 1);
    let (new, _new) = member("s", 1);
    let connection = old.connection();
    members.join(old).unwrap();
    members.leave("s", connection, true);
    assert_eq!(members.count().0, 1);
    members.join(new.clone()).unwrap();
    members.leave("s", new.connection(), true);
    let mut revision = members.revision();
    revision.wait_for(|rev| *rev == 3).await.unwrap();
    assert_eq!(members.count().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_run_is_not_in_the_table_and_can_be_asked() {
    let members = nobody(Duration::ZERO);
    let (member, _outbox) = member("s", 1);
    let connection = member.connection();
    members.join(member).unwrap();
    members.absent("s", connection);
    assert_eq!((members.snapshot().rev, port(&members, "s")), (2, None));
    assert_eq!(members.resolve(&["s".into()]).0.len(), 1);
    members.present("s", connection, Info::from_iter([("port".into(), 9.into())]), None);
    assert_eq!((members.snapshot().rev, port(&members, "s")), (3, Some(9.into())));
    assert!(members.snapshot().servers["s"].returned);
}

#[tokio::test(start_paused = true)]
async fn w5_a_slave_that_comes_back_takes_the_place_of_a_first_one_that_is_only_retained() {
    let members = nobody(Duration::ZERO);
    let [(first, _a), (slave, _b), (back, _c)] = [1, 2, 2].map(|port| member("s", port));
    let connection = back.connection();
    members.join(first).unwrap();
    members.join(slave).unwrap();
    for member in &mut members.table.lock().servers.get_mut("s").unwrap()[..1] {
        (member.lost, member.retained) = (true, true);
    }
    members.join(back).unwrap();
    assert_eq!(port(&members, "s"), Some(2.into()));
    assert_eq!(members.all().iter().map(Member::connection).collect::<Vec<_>>(), [connection]);
}

#[test]
fn clients_of_one_user_are_bounded() {
    let members = nobody(Duration::ZERO);
    let (peer, _outbox) = Peer::new(Transport::SocketIo, None, 8, usize::MAX);
    members.client_joins("a", &peer, "ann", 1).unwrap();
    assert_eq!(members.client_joins("b", &peer, "ann", 1), Err(JoinError::User(1)));
    members.client_joins("b", &peer, "bob", 1).unwrap();
    members.client_joins("c", &peer, "ann", usize::MAX).unwrap();
    members.client_leaves("a", peer.id());
    members.client_leaves("c", peer.id());
    members.client_joins("b2", &peer, "ann", 1).unwrap();
}

#[test]
fn targets_name_ids_types_and_all() {
    let members = nobody(Duration::ZERO);
    let (a, _a) = member("a", 1);
    let (b, _b) = member("b", 2);
    members.join(a).unwrap();
    members.join(b).unwrap();
    let resolve = |targets: &[&str]| {
        let targets: Vec<_> = targets.iter().map(|&target| target.to_owned()).collect();
        let (found, nobody) = members.resolve(&targets);
        (found.into_iter().map(|member| member.id).collect::<Vec<_>>().join(","), nobody.join(","))
    };
    assert_eq!(resolve(&["a", "a", "x"]), ("a".into(), "x".into()));
    assert_eq!(resolve(&["*", "b"]), ("a,b".into(), "".into()));
    assert_eq!(resolve(&["type:chat"]), ("a,b".into(), "".into()));
    assert_eq!(resolve(&["type:gate", "a@h:9"]), ("".into(), "type:gate,a@h:9".into()));
}

/// Lets `count` servers in, loses the connections of the first `lost`, and gives the connections of all.
fn lose(members: &Arc<Members>, count: u16, lost: usize) -> Vec<(String, u64, Outbox)> {
    let joined: Vec<_> = (0..count)
        .map(|port| {
            let (member, outbox) = member(&format!("s{port}"), port);
            let joined = (member.id.clone(), member.connection(), outbox);
            members.join(member).unwrap();
            joined
        })
        .collect();
    joined[..lost].iter().for_each(|(id, connection, _)| members.leave(id, *connection, true));
    joined
}

fn with_hold(hold: Duration) -> Arc<Members> {
    let rule = MassLoss { share: 0.5, hold, window: Duration::from_secs(60) };
    Arc::new(Members::new(Duration::from_millis(10), rule, Journal::new(100)))
}

/// Waits until the ids in the table are as wanted.
async fn until(members: &Members, wanted: impl Fn(&[String]) -> bool) {
    let mut revision = members.revision();
    while !wanted(&members.snapshot().servers.into_keys().collect::<Vec<_>>()) {
        revision.changed().await.unwrap();
    }
}

async fn alarms(members: &Members, count: usize) -> Vec<String> {
    loop {
        let page = members.journal.page(0);
        let alarms = page.events.iter().filter(|event| event.kind == kind::ALARM).map(|event| event.message.clone());
        let alarms: Vec<_> = alarms.collect();
        if alarms.len() >= count {
            return alarms;
        }
        members.journal.next(page.last, Duration::from_secs(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn w5_when_more_than_half_vanish_at_once_the_table_stays_until_the_hold_is_over() {
    let members = with_hold(Duration::from_secs(3600));
    let _joined = lose(&members, 5, 3);
    let begun = alarms(&members, 1).await;
    assert!(begun[0].starts_with("3 of 5 servers vanished at once"), "{begun:?}");
    let begun_at = members.journal.page(0).last;
    assert_eq!((members.snapshot().rev, members.snapshot().servers.len()), (5, 5), "nobody is told anything");
    tokio::time::sleep(Duration::from_secs(3500)).await;
    assert_eq!((members.snapshot().rev, members.journal.page(0).last), (5, begun_at), "nor until the hold is over");
    let over = alarms(&members, 2).await;
    assert!(over[1].contains("3 servers that vanished were removed"), "{over:?}");
    assert_eq!(members.snapshot().servers.into_keys().collect::<Vec<_>>(), ["s3", "s4"]);
}

#[tokio::test(start_paused = true)]
async fn w5_half_of_the_fleet_or_two_servers_are_no_mass_loss() {
    for (count, lost) in [(6, 3), (2, 2)] {
        let members = with_hold(Duration::from_secs(3600));
        let _joined = lose(&members, count, lost);
        let left = usize::from(count) - lost;
        until(&members, |ids| ids.len() == left).await;
        assert!(members.retained().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn w5_those_who_said_that_they_leave_have_not_vanished() {
    let members = with_hold(Duration::from_secs(3600));
    let joined = lose(&members, 4, 0);
    joined.iter().for_each(|(id, connection, _)| members.leave(id, *connection, false));
    assert!(members.snapshot().servers.is_empty() && members.retained().is_empty());
}

#[tokio::test(start_paused = true)]
async fn w5_servers_that_come_back_end_the_alarm() {
    let members = with_hold(Duration::from_secs(3600));
    let _joined = lose(&members, 4, 3);
    alarms(&members, 1).await;
    let mut back = Vec::new();
    for port in 0..3 {
        // One comes back at another address.
        let (mut member, outbox) = member(&format!("s{port}"), if port == 1 { 99 } else { port });
        member.returned = true;
        members.join(member).unwrap();
        back.push(outbox);
    }
    let over = alarms(&members, 2).await;
    assert!(over[1].starts_with("over: all servers that had vanished are back"), "{over:?}");
    assert_eq!(port(&members, "s1"), Some(99.into()), "who is there stands for the id");
    assert_eq!((members.snapshot().servers.len(), members.count().0), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn w5_the_operator_can_have_those_who_vanished_forgotten() {
    let members = with_hold(Duration::from_secs(3600));
    let _joined = lose(&members, 4, 4);
    alarms(&members, 1).await;
    while members.retained().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(members.forget(&["s2".into(), "nobody".into()], "asked"), ["s2"]);
    assert_eq!(members.snapshot().servers.len(), 3);
    assert_eq!(members.forget(&[], "asked").len(), 3);
    assert!(members.snapshot().servers.is_empty());
    assert_eq!(alarms(&members, 2).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn w5_losses_that_come_one_after_another_are_seen_as_one() {
    let members = with_hold(Duration::from_secs(3600));
    let joined = lose(&members, 6, 0);
    for (id, connection, _) in &joined[..2] {
        members.leave(id, *connection, true);
        until(&members, |ids| !ids.contains(id)).await;
    }
    for (id, connection, _) in &joined[2..4] {
        members.leave(id, *connection, true);
    }
    let said = alarms(&members, 1).await;
    assert!(said[0].starts_with("4 of 6 servers vanished at once"), "{said:?}");
    assert_eq!(members.snapshot().servers.len(), 4, "those who were lost last are kept");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_is_what_its_first_monitor_said_last() {
    let members = nobody(Duration::ZERO);
    let [(first, _a), (second, _b), (silent, _c)] = [1, 2, 3].map(|port| member("s", port));
    let (one, two) = (first.connection(), second.connection());
    let said = |members: &Members| members.phases().get("s").map(|phase| (phase.phase, phase.pid));
    let starting = Phase::new(PhaseName::Starting);
    let mut changed = members.phase_changed();
    members.join(first.doing(Some(starting.clone())).down()).unwrap();
    assert_eq!(said(&members), Some((PhaseName::Starting, None)), "the table has no such server, and yet it is known");
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    members.join(second.doing(Some(Phase::running(2)))).unwrap();
    assert_eq!(said(&members), Some((PhaseName::Running, Some(2))), "the primary stands for the id");
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    members.does("s", one, starting.clone());
    assert!(!changed.has_changed().unwrap(), "a slave stands for nobody");
    members.does("s", two, Phase::new(PhaseName::Draining));
    assert_eq!(
        (said(&members), members.snapshot().rev),
        (Some((PhaseName::Draining, None)), 1),
        "the table is the same"
    );
    assert!(changed.has_changed().unwrap());
    members.leave("s", two, false);
    members.leave("s", one, false);
    assert_eq!(said(&members), None);
    members.join(Member { id: "t".into(), ..silent }).unwrap();
    assert!(members.phases().is_empty(), "a monitor that does not say it");
    members.does("s", one, starting);
    assert_eq!(members.phases().len(), 0, "a connection that is over says nothing");
}

#[tokio::test]
async fn what_one_id_says_and_how_many_there_are_is_bounded() {
    let bounds = TableBounds { info: 400, joined: 3, bytes: 1200 };
    let members = Members::new(Duration::from_secs(60), MassLoss::default(), Journal::new(100));
    let members = Arc::new(members.bounded(bounds, Arc::new(|id| id.starts_with("named"))));
    let saying = |id: &str, bytes: usize| {
        let (peer, _outbox) = Peer::new(Transport::SocketIo, None, 8, usize::MAX);
        let info = serde_json::from_value(serde_json::json!({ "port": id, "fat": "x".repeat(bytes) })).unwrap();
        let exchange = Exchange::new(peer, Topic::Monitor, 4);
        Member::new(id.into(), "t".into(), info, exchange, Capabilities::default(), false)
    };
    let refused = |member: Member| members.join(member).unwrap_err();
    assert!(matches!(refused(saying("named-1", 400)), JoinError::Info { limit: 400, named: true, .. }));
    assert!(matches!(refused(saying("joined-1", 100)), JoinError::Info { limit: 100, named: false, .. }));
    let said = refused(saying("joined-1", 100)).to_string();
    assert!(said.contains("info_kib") && said.contains("does not name"), "{said}");
    let lost = saying("joined-1", 10);
    let connection = lost.connection();
    members.join(lost).unwrap();
    for id in ["joined-2", "joined-3"] {
        members.join(saying(id, 10)).unwrap();
    }
    assert_eq!(refused(saying("joined-4", 10)), JoinError::Joined(3));
    // The one whose connection is lost gives way, and one that is named needs no such room.
    members.leave("joined-1", connection, true);
    members.join(saying("joined-4", 10)).unwrap();
    assert!(!members.snapshot().servers.contains_key("joined-1"));
    members.join(saying("named-1", 350)).unwrap();
    members.join(saying("named-2", 350)).unwrap();
    assert!(matches!(refused(saying("named-3", 350)), JoinError::Full { limit: 1200, .. }));
    // In the place of one that is there it need only fit with the others.
    members.join(saying("named-2", 355)).unwrap();
    let connection = members.first("named-2").unwrap().connection();
    members.leave("named-2", connection, false);
    members.join(saying("named-3", 350)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ids_that_nobody_named_raise_no_alarm_where_others_are_named() {
    let members = Members::new(Duration::from_millis(10), MassLoss::default(), Journal::new(100));
    let members = Arc::new(members.bounded(TableBounds::default(), Arc::new(|id| id.starts_with("named"))));
    let ids = ["named-1", "named-2", "named-3", "a", "b", "c", "d", "e", "f", "g"];
    let monitors: Vec<_> = ids.into_iter().zip(1..).map(|(id, port)| member(id, port)).collect();
    for (monitor, _) in &monitors {
        members.join(monitor.clone()).unwrap();
    }
    for (monitor, _) in &monitors[3..] {
        members.leave(&monitor.id, monitor.connection(), true);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((members.retained(), members.snapshot().servers.len()), (vec![], 3));
    for (monitor, _) in &monitors[..3] {
        members.leave(&monitor.id, monitor.connection(), true);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!members.retained().is_empty(), "those that are named do");
}

/// What is told of one who is there: its port, which no two have.
fn seen(members: &Members) -> BTreeMap<String, Value> {
    members.snapshot().servers.into_iter().map(|(id, entry)| (id, entry.info["port"].clone())).collect()
}

/// Applies a batch as every monitor does it.
fn applied(mut view: BTreeMap<String, Value>, batch: &Value) -> BTreeMap<String, Value> {
    for event in batch["events"].as_array().unwrap() {
        let id = event["id"].as_str().unwrap();
        match event["server"]["port"].clone() {
            Value::Null => drop(view.remove(id)),
            port => drop(view.insert(id.to_owned(), port)),
        }
    }
    view
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_for_every_table_that_was_seen_since_the_one_before() {
    // So large that not all that is new fits into one batch.
    for padding in [0, 100 << 10] {
        let members = Members::new(Duration::ZERO, MassLoss::default(), Journal::new(100));
        let bounds = TableBounds { info: 1 << 20, bytes: 1 << 30, ..TableBounds::default() };
        let members = Arc::new(members.bounded(bounds, Arc::new(|_| true)));
        let source = TableEvents::new(members.clone(), Duration::ZERO);
        let (mut seeded, mut position) = (StdRng::seed_from_u64(7), None);
        let mut there: BTreeMap<String, (u64, Outbox)> = BTreeMap::new();
        let mut batches = 0;
        for round in 0..60 {
            let mut tables = vec![(members.snapshot().rev, seen(&members))];
            for action in 0..seeded.random_range(1..12) {
                let id = format!("s-{}", seeded.random_range(0..6));
                match there.remove(&id) {
                    Some((connection, _)) => members.leave(&id, connection, false),
                    None => {
                        let (mut member, outbox) = member(&id, round * 12 + action);
                        let mut info = (*member.info).clone();
                        info.insert("padding".into(), "x".repeat(padding).into());
                        (member.text, member.info) = (crate::wire::raw(&info).into(), Arc::new(info));
                        there.insert(id, (member.connection(), outbox));
                        members.join(member).unwrap();
                    }
                }
                tables.push((members.snapshot().rev, seen(&members)));
            }
            loop {
                let Batch { events, position: next } = source.next(position.as_ref()).await;
                position = Some(next);
                batches += 1;
                let batch: Value = serde_json::from_str(events.get()).unwrap();
                let rev = batch["rev"].as_u64().unwrap();
                for (at, table) in tables.iter_mut().filter(|(at, _)| *at < rev) {
                    assert!(batch["since"].as_u64().unwrap() <= *at && batch["exact"].is_null(), "{batch}");
                    (*at, *table) = (rev, applied(std::mem::take(table), &batch));
                }
                if rev == members.snapshot().rev {
                    break;
                }
            }
            for (_, table) in tables {
                assert_eq!(table, seen(&members), "round {round}");
            }
        }
        assert_eq!(batches > 60, padding > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_says_where_it_cannot_tell_of_all_that_came_and_left() {
    let members = nobody(Duration::ZERO);
    let source = TableEvents::new(members.clone(), Duration::ZERO);
    let come_and_go = |count: u16| {
        for number in 0..count {
            let (member, _outbox) = member(&format!("g-{number}"), number);
            let connection = member.connection();
            members.join(member).unwrap();
            members.leave(&format!("g-{number}"), connection, false);
        }
    };
    let mut position = None;
    // More than are told in one batch; more than are remembered; few.
    for (count, exact) in [(1025, true), (5000, true), (3, false)] {
        come_and_go(count);
        let Batch { events, position: next } = source.next(position.as_ref()).await;
        let batch: Value = serde_json::from_str(events.get()).unwrap();
        assert_eq!(batch["exact"] == true, exact, "{count}");
        assert_eq!(batch["events"].as_array().unwrap().len(), if exact { 0 } else { usize::from(count) });
        position = Some(next);
    }
}
