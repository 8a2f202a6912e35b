//! Tests of a monitor of ours with an original master of pomelo 2.x: the model of the host has a master without revisions.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use pomelo_sdk::{Failure, Result};
use serde_json::{Value, json, value::to_raw_value};

use crate::monitor::{self, Host};
use crate::protocol::{Info, Infos, Known, Order, Request, known};

#[derive(Default)]
struct World {
    /// The master's table.
    table: RefCell<BTreeSet<&'static str>>,
    view: RefCell<BTreeSet<String>>,
    store: RefCell<BTreeMap<String, String>>,
    /// What was asked and notified, in order.
    said: RefCell<Vec<String>>,
    /// How often the whole view was replaced.
    replaced: Cell<u32>,
    /// The application's next change fails.
    fails: Cell<bool>,
}

impl World {
    fn with(servers: &[&'static str]) -> World {
        World { table: RefCell::new(servers.iter().copied().collect()), ..World::default() }
    }

    fn order(&self, order: Value) -> Result {
        monitor::obey(self, serde_json::from_value::<Order>(order).unwrap())
    }

    fn add(&self, id: &'static str) -> Result {
        self.table.borrow_mut().insert(id);
        self.order(json!({"action": "addServer", "server": {"id": id}}))
    }

    fn remove(&self, id: &'static str) -> Result {
        self.table.borrow_mut().remove(id);
        self.order(json!({"action": "removeServer", "id": id}))
    }

    fn check(&self, said: &[&str], view: &[&str]) {
        assert_eq!(self.said.take(), said);
        assert_eq!(self.view.borrow().iter().collect::<Vec<_>>(), view);
    }

    fn change(&self) -> Result {
        if self.fails.take() { Err(Failure::new("failed", "not now")) } else { Ok(()) }
    }
}

impl Host for World {
    fn ask(&self, request: &Request) -> Result<Known> {
        self.said.borrow_mut().push(request.action.clone());
        let table: BTreeMap<_, _> = self.table.borrow().iter().map(|id| (*id, json!({"id": id}))).collect();
        Ok(known(to_raw_value(&table)?)?)
    }

    fn notify(&self, request: &Request) -> Result {
        self.said.borrow_mut().push(request.action.clone());
        Ok(())
    }

    fn id(&self) -> String {
        "ours".to_owned()
    }

    fn add(&self, servers: &[Info]) -> Result {
        self.change()?;
        for server in servers {
            let server: Value = serde_json::from_str(server.get())?;
            self.view.borrow_mut().insert(server["id"].as_str().unwrap().to_owned());
        }
        Ok(())
    }

    fn remove(&self, ids: &[String]) -> Result {
        self.change()?;
        self.view.borrow_mut().retain(|id| !ids.contains(id));
        Ok(())
    }

    fn replace(&self, servers: &Infos) -> Result {
        self.change()?;
        let servers: BTreeMap<String, Value> = serde_json::from_str(servers.get())?;
        self.replaced.set(self.replaced.get() + 1);
        *self.view.borrow_mut() = servers.into_keys().collect();
        Ok(())
    }

    fn start_over(&self) -> Result {
        self.said.borrow_mut().push("over".to_owned());
        Ok(())
    }

    fn read(&self, key: &str) -> Option<String> {
        self.store.borrow().get(key).cloned()
    }

    fn swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool> {
        let is_as_expected = self.read(key).as_deref() == expected;
        if is_as_expected {
            self.write(key, new)?;
        }
        Ok(is_as_expected)
    }

    fn write(&self, key: &str, text: Option<&str>) -> Result {
        match text {
            Some(text) => self.store.borrow_mut().insert(key.to_owned(), text.to_owned()),
            None => self.store.borrow_mut().remove(key),
        };
        Ok(())
    }
}

#[test]
fn r5_a_plain_table_is_kept_by_its_changes_and_asked_for_only_where_one_may_be_missing() {
    let world = World::with(&["chat-1", "ours"]);
    monitor::start(&world).unwrap();
    world.check(&["subscribe", "record"], &["chat-1", "ours"]);
    // Something may have come while it was asked.
    monitor::check(&world).unwrap();
    world.check(&["query"], &["chat-1", "ours"]);
    world.add("chat-2").unwrap();
    world.remove("chat-1").unwrap();
    let replaced = world.replaced.get();
    for _ in 0..3 {
        monitor::check(&world).unwrap();
    }
    // Nothing is missing: nothing is asked, and nothing recorded twice.
    world.check(&[], &["chat-2", "ours"]);
    assert_eq!(world.replaced.get(), replaced);

    world.fails.set(true);
    world.add("gate-1").unwrap_err();
    world.check(&[], &["chat-2", "ours"]);
    monitor::check(&world).unwrap();
    world.check(&["query"], &["chat-2", "gate-1", "ours"]);
}

#[test]
fn r5_a_restarted_original_master_tells_the_whole_table_and_all_have_started_once() {
    let world = World::with(&["chat-1", "ours"]);
    monitor::start(&world).unwrap();
    world.order(json!({"action": "startOver"})).unwrap();
    world.check(&["subscribe", "record", "over"], &["chat-1", "ours"]);
    // To an original master a server that comes back is a listener. It is told of changes before the timer runs.
    world.table.take();
    world.order(json!({"action": "replaceServer", "servers": {"ours": {"id": "ours"}}})).unwrap();
    world.add("chat-2").unwrap();
    world.order(json!({"action": "startOver"})).unwrap();
    monitor::check(&world).unwrap();
    world.check(&[], &["chat-2", "ours"]);
}

#[test]
fn r5_a_start_that_failed_is_made_good_by_the_timer() {
    let world = World::with(&["ours"]);
    world.fails.set(true);
    monitor::start(&world).unwrap_err();
    monitor::check(&world).unwrap();
    world.check(&["subscribe", "query"], &["ours"]);
}
