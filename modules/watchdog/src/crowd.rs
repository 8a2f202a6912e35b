//! Tests of the master's side with many servers, and with ids that come and go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use pomelo_sdk::{Failure, Result};
use serde_json::json;

use crate::history::History;
use crate::master::{self, Host, MOST_AWAY, Member};
use crate::protocol::{Answer, Batch, Event, Info, Mark, Order, Request, Table};

/// The limits that the module wants, bytes.
const STORE: usize = 1 << 20;
const MESSAGE: usize = 4 << 20;

/// A master's host.
struct Crowd {
    table: RefCell<BTreeMap<String, Info>>,
    /// The same as text, while it is as it was.
    text: RefCell<Option<String>>,
    rev: Cell<u64>,
    members: RefCell<BTreeMap<String, Member>>,
    texts: RefCell<BTreeMap<String, String>>,
    configured: Vec<String>,
    store: usize,
    /// Bytes that the store has, as the host counts them.
    stored: Cell<usize>,
    /// The largest order, bytes, and how often each server was told something.
    largest: Cell<usize>,
    told: RefCell<BTreeMap<String, usize>>,
    history: RefCell<History>,
    /// The order that was told last.
    last: RefCell<String>,
}

fn cost(key: &str, member: &Member) -> usize {
    key.len() + serde_json::to_string(member).unwrap().len() + 64
}

/// What a real server says of itself: about 200 bytes.
fn info(id: &str) -> Info {
    let info = json!({
        "id": id, "serverType": "connector", "host": "10.11.12.13", "port": 4050, "clientHost": "203.0.113.17", "clientPort": 3010,
        "frontend": "true", "args": "--max-old-space-size=1024", "pid": 1_234_567,
    });
    serde_json::value::to_raw_value(&info).unwrap()
}

impl Crowd {
    fn new(configured: &[&str], store: usize) -> Self {
        Crowd {
            table: RefCell::default(),
            text: RefCell::default(),
            rev: Cell::new(0),
            members: RefCell::default(),
            texts: RefCell::default(),
            configured: configured.iter().map(|id| (*id).to_owned()).collect(),
            store,
            stored: Cell::new(0),
            largest: Cell::new(0),
            told: RefCell::default(),
            history: RefCell::default(),
            last: RefCell::default(),
        }
    }

    fn batch(&self, events: Vec<Event>) -> Batch {
        self.text.take();
        let since = self.rev.get();
        let mut events = events;
        for event in &mut events {
            self.rev.update(|rev| rev + 1);
            event.rev = Some(self.rev.get());
        }
        Batch { since, rev: self.rev.get(), epoch: "e".into(), exact: false, events }
    }

    fn joins(&self, id: &str) -> Event {
        self.table.borrow_mut().insert(id.into(), info(id));
        Event { event: "register".into(), id: id.into(), server: Some(info(id)), rev: None, capabilities: Vec::new() }
    }

    fn leaves(&self, id: &str) -> Event {
        self.table.borrow_mut().remove(id);
        Event { event: "disconnect".into(), id: id.into(), server: None, rev: None, capabilities: Vec::new() }
    }

    fn asks(&self, id: &str, action: &str) -> Result<Answer> {
        master::handle(self, id, &Request::new(action, id.into()).at(None))
    }

    fn away(&self) -> usize {
        let members = self.members.borrow();
        let away = members.keys().filter(|key| !self.table.borrow().contains_key(key.strip_prefix("member:").unwrap()));
        away.count()
    }
}

impl Host for Crowd {
    fn id(&self) -> String {
        "master".into()
    }

    fn rev(&self) -> Result<u64> {
        Ok(self.rev.get())
    }

    fn server(&self, id: &str) -> Result<Option<Info>> {
        Ok(self.table.borrow().get(id).cloned())
    }

    fn table(&self, _: u64) -> Result<Rc<Table>> {
        let mut text = self.text.borrow_mut();
        let text = text.get_or_insert_with(|| {
            let servers = serde_json::to_string(&*self.table.borrow()).unwrap();
            format!(r#"{{"rev":{},"epoch":"e","servers":{servers}}}"#, self.rev.get())
        });
        Ok(Rc::new(serde_json::from_str(text)?))
    }

    fn configured(&self) -> Result<Vec<String>> {
        Ok(self.configured.clone())
    }

    fn tell(&self, ids: &[&str], order: &Order) -> Result {
        let text = serde_json::to_string(order)?;
        self.largest.set(self.largest.get().max(text.len()));
        self.last.replace(text);
        for id in ids {
            *self.told.borrow_mut().entry((*id).to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.rev.get())
    }

    fn members(&self, _: &str) -> Result<Vec<(String, Member)>> {
        Ok(self.members.borrow().iter().map(|(key, member)| (key.clone(), member.clone())).collect())
    }

    fn member(&self, key: &str) -> Result<Option<Member>> {
        Ok(self.members.borrow().get(key).cloned())
    }

    fn set_member(&self, key: &str, member: &Member) -> Result {
        let mut members = self.members.borrow_mut();
        let before = members.get(key).map_or(0, |before| cost(key, before));
        let after = self.stored.get() - before + cost(key, member);
        if after > self.store {
            return Err(Failure::new("store-full", "The module's store is full."));
        }
        self.stored.set(after);
        members.insert(key.into(), member.clone());
        Ok(())
    }

    fn delete(&self, key: &str) {
        if let Some(before) = self.members.borrow_mut().remove(key) {
            self.stored.set(self.stored.get() - cost(key, &before));
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        self.texts.borrow().get(key).cloned()
    }

    fn set_text(&self, key: &str, text: &str) -> Result {
        self.texts.borrow_mut().insert(key.into(), text.into());
        Ok(())
    }

    fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.borrow_mut())
    }
}

/// Ids of the longest form.
fn passing(number: usize) -> String {
    format!("{number:0>128}")
}

#[test]
fn ids_that_come_and_go_leave_room_for_new_servers() {
    let crowd = Crowd::new(&["chat-1"], STORE);
    let arrives = crowd.joins("chat-1");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    crowd.asks("chat-1", "subscribe").unwrap();
    crowd.asks("chat-1", "record").unwrap();
    let leaves = crowd.leaves("chat-1");
    master::changed(&crowd, crowd.batch(vec![leaves])).unwrap();
    for first in (0..4000).step_by(20) {
        let ids: Vec<_> = (first..first + 20).map(passing).collect();
        let joined = ids.iter().map(|id| crowd.joins(id)).collect();
        master::changed(&crowd, crowd.batch(joined)).unwrap();
        for id in &ids {
            crowd.asks(id, "subscribe").unwrap();
            crowd.asks(id, "record").unwrap();
        }
        let left = ids.iter().map(|id| crowd.leaves(id)).collect();
        master::changed(&crowd, crowd.batch(left)).unwrap();
        assert!(crowd.away() <= MOST_AWAY, "{}", crowd.away());
    }
    assert!(crowd.member("member:chat-1").unwrap().is_some(), "one that is configured is remembered before others");
    let arrives = crowd.joins("new");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    crowd.asks("new", "subscribe").unwrap();
    let arrives = crowd.joins("newer");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    assert!(crowd.told.borrow()["new"] >= 1, "it is told of changes");
}

#[test]
fn monitors_whose_servers_never_run_are_forgotten_too() {
    let crowd = Crowd::new(&[], STORE);
    for number in 0..4000 {
        // It is connected and not in the table: no event ever says that it has gone.
        crowd.asks(&passing(number), "record").unwrap();
    }
    let arrives = crowd.joins("new");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    crowd.asks("new", "subscribe").unwrap();
    assert!(crowd.away() <= MOST_AWAY);
}

#[test]
fn a_store_that_is_full_gives_up_those_that_are_away() {
    // Room for about twenty.
    let crowd = Crowd::new(&[], 4 << 10);
    for number in 0..100 {
        crowd.asks(&format!("s-{number}"), "record").unwrap();
    }
    let arrives = crowd.joins("new");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    crowd.asks("new", "subscribe").unwrap();
    assert!(crowd.member("member:new").unwrap().is_some());
}

#[test]
fn a_server_of_pomelo_is_told_of_each_change_and_of_a_whole_fleet_at_once() {
    let crowd = Crowd::new(&[], STORE);
    let ids: Vec<_> = (0..300).map(|number| format!("connector-{number}")).collect();
    let join = |ids: &[String]| {
        let joined = ids.iter().map(|id| crowd.joins(id)).collect();
        master::changed(&crowd, crowd.batch(joined)).unwrap();
    };
    let subscribe = |id: &str| drop(master::handle(&crowd, id, &Request::new("subscribe", id.into())).unwrap());
    let told = |id: &str| crowd.told.borrow().get(id).copied().unwrap_or_default();
    join(&ids[..20]);
    ids[..20].iter().for_each(|id| subscribe(id));
    join(&ids[20..30]);
    assert_eq!(told(&ids[0]), 10, "one message for each");
    join(&ids[30..]);
    assert_eq!(told(&ids[0]), 11, "one with the whole table");
}

#[test]
fn a_server_of_pomelo_is_in_the_table_that_it_is_given() {
    let crowd = Crowd::new(&[], STORE);
    let ask = |id: &str, action: &str| {
        let answer = master::handle(&crowd, id, &Request::new(action, id.into())).unwrap();
        serde_json::to_value(answer).unwrap()
    };
    let (master, a) = (crowd.joins("master"), crowd.joins("a"));
    master::changed(&crowd, crowd.batch(vec![master, a])).unwrap();
    assert_eq!(ask("master", "subscribe"), json!({ "a": info("a") }), "pomelo's servers know nothing of the master");
    // The listeners have not been told of it.
    crowd.joins("b");
    assert_eq!(ask("b", "subscribe"), json!({ "a": info("a"), "b": info("b") }));
    assert_eq!(ask("a", "query"), json!({ "a": info("a") }));
    // A new process under the same id.
    let newer = serde_json::value::to_raw_value(&json!({ "id": "a", "pid": 2 })).unwrap();
    crowd.table.borrow_mut().insert("a".into(), newer);
    assert_eq!(ask("a", "query"), json!({ "a": { "id": "a", "pid": 2 } }));
    // Of many that come at once each is given the same.
    crowd.rev.set(crowd.rev.get() + 33);
    assert_eq!(ask("b", "query"), json!({ "a": info("a") }));
}

#[test]
fn whoever_has_missed_a_few_changes_is_given_those_and_not_the_table() {
    let crowd = Crowd::new(&[], STORE);
    let change = |events| master::changed(&crowd, crowd.batch(events)).unwrap();
    change((0..300).map(|number| crowd.joins(&format!("connector-{number}"))).collect());
    crowd.asks("connector-7", "subscribe").unwrap();
    change(vec![crowd.joins("gate-1"), crowd.leaves("connector-8")]);
    let mark = Mark { epoch: "e".into(), rev: crowd.rev.get() };
    change(vec![crowd.leaves("connector-7")]);
    change(vec![crowd.joins("gate-2"), crowd.leaves("connector-9")]);

    // It was still connected.
    let ask = |mark: &Mark| {
        let request = Request::new("query", "connector-7".into()).at(Some(mark));
        serde_json::to_value(master::handle(&crowd, "connector-7", &request).unwrap()).unwrap()
    };
    let ids = |value: &serde_json::Value| {
        value.as_array().unwrap().iter().map(|info| info["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let answer = ask(&mark);
    assert_eq!((&answer["servers"], answer["rev"].as_u64().unwrap()), (&serde_json::Value::Null, crowd.rev.get()));
    assert_eq!(ids(&answer["changes"]["add"]), ["gate-2"]);
    assert_eq!(answer["changes"]["remove"], json!(["connector-7", "connector-9"]));
    assert!(ask(&Mark { epoch: "another".into(), ..mark })["servers"].is_object(), "another process of the master");

    let back =
        Event { event: "reconnect".into(), capabilities: vec!["revisions".into()], ..crowd.joins("connector-7") };
    change(vec![back]);
    let order: serde_json::Value = serde_json::from_str(&crowd.last.borrow()).unwrap();
    assert_eq!((order["action"].as_str(), &order["since"]), (Some("update"), &json!(mark.rev)));
    assert_eq!(ids(&order["add"]), ["connector-7", "gate-2"]);
    assert_eq!(order["remove"], json!(["connector-9"]));
}

#[test]
fn whoever_comes_after_the_start_is_told_that_it_is_over_after_the_servers_it_is_about() {
    let crowd = Crowd::new(&["a"], STORE);
    let over = |id: &str| {
        let member = crowd.member(&["member:", id].concat()).unwrap().unwrap();
        serde_json::to_value(member).unwrap()["over"] == true
    };
    let arrives = crowd.joins("a");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    crowd.asks("a", "subscribe").unwrap();
    crowd.asks("a", "record").unwrap();
    assert!(over("a"), "all have started");
    // It is in the table, and the change is not told yet.
    let arrives = crowd.joins("b");
    let batch = crowd.batch(vec![arrives]);
    crowd.asks("b", "subscribe").unwrap();
    crowd.asks("b", "record").unwrap();
    assert!(!over("b"));
    master::changed(&crowd, batch).unwrap();
    assert!(over("b"));
    crowd.asks("b", "record").unwrap();
    assert!(over("b"), "once there is nothing to wait for it is told at once");
}

#[test]
fn a_server_that_stood_behind_another_stays_a_listener_when_it_takes_its_place() {
    let crowd = Crowd::new(&[], STORE);
    let arrives = crowd.joins("a");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    // Another monitor of the id, which is not in the table yet.
    let arrived = crowd.rev.get();
    let plain = |action: &str| drop(master::handle(&crowd, "a", &Request::new(action, "a".into())).unwrap());
    plain("subscribe");
    plain("record");
    let mut batch = crowd.batch(vec![crowd.joins("a")]);
    batch.events[0].rev = Some(arrived);
    master::changed(&crowd, batch).unwrap();
    let told = || crowd.told.borrow().get("a").copied().unwrap_or_default();
    let before = told();
    let arrives = crowd.joins("b");
    master::changed(&crowd, crowd.batch(vec![arrives])).unwrap();
    assert_eq!(told(), before + 1, "it is told of changes");
}

/// The host gives the module ten times the limits where ten times as many servers are expected.
#[test]
fn ten_thousand_servers_fit_into_what_the_module_is_given() {
    let crowd = Crowd::new(&[], 5 * STORE);
    let ids: Vec<_> = (0..10_000).map(|number| format!("connector-server-{number}")).collect();
    // As the host tells many at once: in parts.
    for part in ids.chunks(1000) {
        let joined = part.iter().map(|id| crowd.joins(id)).collect();
        master::changed(&crowd, crowd.batch(joined)).unwrap();
    }
    for id in &ids[..5] {
        crowd.asks(id, "subscribe").unwrap();
    }
    let answer = serde_json::to_string(&crowd.asks(&ids[9_999], "subscribe").unwrap()).unwrap();
    assert!((2_000_000..5 * MESSAGE).contains(&answer.len()), "the whole table has {} bytes", answer.len());
    let leaves = ids[9_000..].iter().map(|id| crowd.leaves(id)).collect();
    master::changed(&crowd, crowd.batch(leaves)).unwrap();
    assert!(crowd.largest.get() < MESSAGE / 4, "the largest change has {} bytes", crowd.largest.get());
}
