use super::*;

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, String>>);

impl Keeper for Memory {
    fn load(&self, _: &str) -> Result<Vec<(String, String)>, Failure> {
        Ok(self.0.lock().clone().into_iter().collect())
    }

    fn put(&self, _: &str, key: &str, value: Option<Arc<str>>) {
        match value {
            Some(value) => drop(self.0.lock().insert(key.into(), value.to_string())),
            None => drop(self.0.lock().remove(key)),
        }
    }
}

fn at(second: u64) -> Moment {
    let since = Duration::from_secs(second);
    Moment { wall: UNIX_EPOCH + since, since }
}

fn comer<'a>(id: &'a str, server_type: &'a str, address: &str) -> Comer<'a> {
    Comer { id, server_type, address: address.parse().ok() }
}

#[test]
fn a3_who_registered_before_comes_back_from_where_it_was_even_to_a_restarted_master() {
    let keeper = Arc::new(Memory::default());
    let check = |policy, expected: [bool; 4]| {
        let known_servers = KnownServers::new(policy, Some(keeper.clone())).unwrap();
        let comers = [
            comer("chat-1", "chat", "10.0.0.1"),
            comer("chat-1", "chat", "10.0.0.2"),
            comer("chat-1", "gate", "10.0.0.1"),
            comer("chat-2", "chat", "10.0.0.1"),
        ];
        assert_eq!(comers.map(|comer| known_servers.admits(comer, at(9)).is_some()), expected, "{policy:?}");
    };
    let first = KnownServers::new(Reconnect::Known, Some(keeper.clone())).unwrap();
    first.remember(comer("chat-1", "chat", "10.0.0.1"), Trust::of("token"), at(1));
    check(Reconnect::Known, [true, false, false, false]);
    check(Reconnect::KnownId, [true, true, false, false]);
    check(Reconnect::Any, [true; 4]);
    check(Reconnect::Never, [false; 4]);
}

#[test]
fn a3_who_waits_is_shown_and_admitted_for_a_time() {
    let known_servers = KnownServers::new(Reconnect::Known, None).unwrap();
    let chat = comer("chat-1", "chat", "10.0.0.1");
    assert_eq!([known_servers.admits(chat, at(1)), known_servers.admits(chat, at(2))], [None, None]);
    let waiting = &known_servers.waiting()["chat-1"];
    assert_eq!((waiting.since, waiting.last, waiting.tries), (1, 2, 2));
    assert!(known_servers.admit(&["chat-1".into()], Duration::from_secs(10), at(3)));
    assert_eq!(known_servers.admits(chat, at(13)), None, "the time is over");
    assert!(known_servers.admit(&["chat-1".into()], Duration::from_secs(10), at(14)));
    let trust = known_servers.admits(chat, at(15)).unwrap();
    known_servers.remember(chat, trust, at(15));
    assert!(known_servers.waiting().is_empty());
    assert_eq!(known_servers.admits(chat, at(99)), Some(Trust::Known));
    assert!(known_servers.admit(&[], Duration::from_secs(10), at(100)));
    assert!(known_servers.admits(comer("any", "gate", "10.0.0.9"), at(101)).is_some());
    assert_eq!(known_servers.admits(comer("more", "gate", "10.0.0.9"), at(111)), None);
}

#[test]
fn a3_whom_a_rule_for_all_lets_in_is_not_known_by_that() {
    let keeper = Arc::new(Memory::default());
    let chat = comer("chat-1", "chat", "10.0.0.1");
    for (policy, admitted) in [(Reconnect::Any, false), (Reconnect::Known, true), (Reconnect::KnownId, true)] {
        let known_servers = KnownServers::new(policy, Some(keeper.clone())).unwrap();
        assert!(!admitted || known_servers.admit(&[], Duration::from_secs(10), at(1)));
        let trust = known_servers.admits(chat, at(2)).unwrap();
        known_servers.remember(chat, trust, at(2));
        assert!(keeper.0.lock().is_empty(), "{policy:?}");
    }
}

#[test]
fn a3_who_is_known_by_a_token_is_forgotten_with_it_and_coming_back_does_not_change_by_what() {
    let keeper = Arc::new(Memory::default());
    let known_servers = KnownServers::new(Reconnect::KnownId, Some(keeper.clone())).unwrap();
    let (chat, gate) = (comer("chat-1", "chat", "10.0.0.1"), comer("gate-1", "gate", "10.0.0.1"));
    known_servers.remember(chat, Trust::of("old"), at(1));
    assert!(known_servers.admit(&["gate-1".into()], Duration::from_secs(10), at(1)));
    let trust = known_servers.admits(gate, at(2)).unwrap();
    known_servers.remember(gate, trust, at(2));
    // It comes back again and again, from elsewhere as well.
    let elsewhere = comer("chat-1", "chat", "10.0.0.2");
    let trust = known_servers.admits(elsewhere, at(3)).unwrap();
    known_servers.remember(elsewhere, trust, at(2 * REFRESHED));
    // A restarted master knows by what.
    let restarted = KnownServers::new(Reconnect::Known, Some(keeper.clone())).unwrap();
    assert_eq!(restarted.admits(elsewhere, at(4)), None);
    restarted.retain(|server_type, digest| (server_type, digest) == ("chat", &*Tokens::digest("old")));
    assert_eq!(restarted.admits(chat, at(5)), Some(Trust::Known));
    restarted.retain(|_, _| false);
    assert_eq!((restarted.admits(chat, at(6)), restarted.admits(gate, at(6))), (None, Some(Trust::Known)));
    assert_eq!(keeper.0.lock().keys().collect::<Vec<_>>(), ["gate-1"]);
}

#[test]
fn only_so_many_are_remembered_waiting_and_admitted() {
    let keeper = Arc::new(Memory::default());
    let known_servers = KnownServers::new(Reconnect::KnownId, Some(keeper.clone())).unwrap();
    for n in 0..=MAX_KNOWN as u64 {
        known_servers.remember(comer(&format!("chat-{n}"), "chat", ""), Trust::of("token"), at(n));
    }
    assert_eq!(keeper.0.lock().len(), MAX_KNOWN);
    assert_eq!(known_servers.admits(comer("chat-0", "chat", ""), at(1)), None, "the oldest went first");
    for n in 0..2 * MAX_WAITING as u64 {
        known_servers.admits(comer(&format!("new-{n}"), "chat", ""), at(n));
    }
    assert_eq!(known_servers.waiting().len(), MAX_WAITING);
    let ids: Vec<String> = (0..=MAX_ADMITTED).map(|n| n.to_string()).collect();
    assert!(!known_servers.admit(&ids, Duration::from_secs(1), at(1)));
    assert!(known_servers.admit(&ids[1..], Duration::from_secs(1), at(1)));
}

#[test]
fn what_an_operator_admits_for_a_time_is_admitted_for_that_time_whoever_sets_the_clock() {
    let known_servers = KnownServers::new(Reconnect::Known, None).unwrap();
    let chat = comer("chat-1", "chat", "10.0.0.1");
    let hour = Duration::from_secs(3600);
    let clock_is = |wall: SystemTime, second| Moment { wall, since: Duration::from_secs(second) };
    let noon = UNIX_EPOCH + 12 * hour;
    for set in [noon - 5 * hour, noon, noon + 5 * hour] {
        assert!(known_servers.admit(&["chat-1".into()], Duration::from_secs(10), clock_is(noon, 100)));
        assert!(known_servers.admits(chat, clock_is(set, 109)).is_some());
        assert!(known_servers.admits(chat, clock_is(set, 110)).is_none());
    }
}
