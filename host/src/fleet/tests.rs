mod property;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::world::{Memory, named};
use super::*;

const BEGIN: &str =
    "<!-- The table of transitions: UPDATE_DOCS=1 cargo test -p pomelo-host --lib fleet writes it. -->\n";
const END: &str = "<!-- The end of the table. -->";

fn word(input: Input) -> String {
    let words = format!("{input:?}");
    let mut told = String::new();
    for (place, letter) in words.chars().filter(|letter| *letter != ')').enumerate() {
        match letter {
            '(' => told.push(' '),
            letter if letter.is_uppercase() => {
                if place > 0 && !told.ends_with(' ') {
                    told.push('-');
                }
                told.extend(letter.to_lowercase());
            }
            letter => told.push(letter),
        }
    }
    told
}

/// For each input the changes of each place and what is wanted. What leads to the same state is one entry.
fn table() -> String {
    let mut text = String::from(
        "| input | ours, wanted up | ours, wanted down | theirs, wanted up | theirs, wanted down |\n|---|---|---|---|---|\n",
    );
    for input in Input::ALL {
        let mut cells = Vec::new();
        for place in [Place::Ours, Place::Theirs] {
            for wanted in [Wanted::Up, Wanted::Down] {
                let mut to: BTreeMap<State, Vec<&str>> = BTreeMap::new();
                for state in State::ALL {
                    let after = next(state, wanted, place, input);
                    if after != state {
                        to.entry(after).or_default().push(state.as_str());
                    }
                }
                let told = to.into_iter().map(|(to, from)| {
                    let any = from.len() == State::ALL.len() - 1;
                    format!("{} → **{}**", if any { "any".into() } else { from.join(", ") }, to.as_str())
                });
                cells.push(told.collect::<Vec<_>>().join("; "));
            }
        }
        let _ = writeln!(text, "| `{}` | {} |", word(input), cells.join(" | "));
    }
    text
}

#[test]
fn the_page_has_the_table_of_all_transitions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleet.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("docs/fleet.md has the marker before the table");
    let (told, tail) = rest.split_once(END).expect("docs/fleet.md has the marker after the table");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
    } else {
        assert_eq!(told, table, "docs/fleet.md is not as the state machine: set UPDATE_DOCS=1 and run this test");
    }
}

#[test]
fn what_is_due_ends_in_a_state_where_nothing_is_due() {
    for state in State::ALL {
        match due(state, Wanted::Up) {
            None => {}
            Some(is) => {
                assert_eq!((state, is), (State::Pending, Due::Start));
                assert_eq!(due(next(state, Wanted::Up, Place::Ours, Input::Launched), Wanted::Up), None);
                assert_eq!(due(next(state, Wanted::Up, Place::Ours, Input::NotLaunched), Wanted::Up), None);
            }
        }
        if due(state, Wanted::Down).is_some() {
            for place in [Place::Ours, Place::Theirs] {
                let ending = next(state, Wanted::Down, place, Input::Ending);
                assert_eq!(next(ending, Wanted::Down, place, Input::Gone), State::Stopped);
            }
        }
    }
}

fn fleet(store: &Memory, ids: &[&str]) -> Fleet {
    let fleet = Fleet::load(Arc::new(store.clone()));
    fleet.name(&named(ids));
    fleet
}

fn input(fleet: &Fleet, id: &str, input: Input) {
    fleet.input(id, Some("chat"), input, Happening::default());
}

fn shown(fleet: &Fleet) -> Vec<(String, Wanted, State)> {
    fleet.servers().into_iter().map(|record| (record.id, record.wanted, record.state)).collect()
}

#[test]
fn what_was_stopped_stays_so_and_what_is_wanted_is_started_by_the_next_master() {
    let store = Memory::default();
    let ids = ["chat-1", "chat-2", "t-1", "t-2", "t-3"];
    let first = fleet(&store, &ids);
    for id in ids {
        input(&first, id, Input::Launched);
        input(&first, id, Input::Joined);
    }
    // Who launched them does not matter here: those of somebody else are told by their connections alone.
    let first = {
        drop(first);
        let store = store.clone();
        let fleet = Fleet::load(Arc::new(store));
        fleet.name(&named(&ids));
        fleet
    };
    first.want(&["chat-2".into(), "t-2".into()], Wanted::Down, "ada");
    for id in ["chat-2", "t-2"] {
        input(&first, id, Input::Ending);
        input(&first, id, Input::Gone);
    }
    let before = first.get("chat-2").unwrap();
    assert_eq!((before.wanted, before.wanted_by.as_str(), before.state), (Wanted::Down, "ada", State::Stopped));
    let second = fleet(&store, &ids);
    let after = second.get("chat-2").unwrap();
    assert_eq!((after.wanted, after.wanted_by, after.wanted_since), (Wanted::Down, "ada".into(), before.wanted_since));
    assert_eq!(second.get("t-2").unwrap().wanted, Wanted::Down);
    assert_eq!(second.due(), [("chat-1".to_owned(), Due::Start)], "{:?}", shown(&second));
    // One that comes although it is wanted down is due to be ended.
    input(&second, "t-2", Input::Joined);
    assert!(second.due().contains(&("t-2".into(), Due::End)));
}

#[test]
fn a_reload_at_any_point_forgets_nothing_that_is_wanted() {
    let ids = ["chat-1", "t-1"];
    for at in Input::ALL {
        for wanted in [Wanted::Up, Wanted::Down] {
            let store = Memory::default();
            let first = fleet(&store, &ids);
            for id in ids {
                input(&first, id, Input::Joined);
            }
            first.want(&ids.map(str::to_owned), wanted, "ada");
            for id in ids {
                input(&first, id, at);
            }
            let wanted_now = shown(&first).into_iter().map(|(id, wanted, _)| (id, wanted)).collect::<Vec<_>>();
            let second = fleet(&store, &ids);
            assert_eq!(wanted_now, shown(&second).into_iter().map(|(id, wanted, _)| (id, wanted)).collect::<Vec<_>>());
            assert_eq!(second.servers().len(), 2, "{at:?}");
        }
    }
}

#[test]
fn ends_are_bounded_counted_and_each_is_kept_once() {
    let store = Memory::default();
    let fleet = fleet(&store, &["chat-1"]);
    for number in 0..9_u64 {
        let exit = LastExit { how: format!("ended with code {number}"), time: number, lines: Vec::new(), id: 0 };
        for told in 0..2 {
            // The time is another whenever it is told by a monitor, which gives it an id.
            let (id, time) = if number < 7 { (0, number) } else { (number, number + 100 * told) };
            let exit = LastExit { id, time, ..exit.clone() };
            let happening = Happening { exit: Some(exit), ..Happening::default() };
            fleet.input("chat-1", None, Input::SaysBackingOff, happening);
        }
    }
    let kept = fleet.get("chat-1").unwrap();
    assert_eq!(kept.exits.iter().map(|exit| exit.time).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
    let long = "ä".repeat(2000);
    fleet.input("chat-1", None, Input::SaysFailed, Happening::why(long));
    assert!(fleet.get("chat-1").unwrap().why.len() <= 512);
    input(&fleet, "chat-1", Input::Exited(End::Again));
    assert_eq!(fleet.get("chat-1").unwrap().restarts, 1);
}

#[test]
fn why_a_server_has_failed_is_kept_whatever_comes_first() {
    for says_first in [true, false] {
        let fleet = fleet(&Memory::default(), &["chat-1"]);
        input(&fleet, "chat-1", Input::Launched);
        let mut happened =
            [(Input::SaysFailed, "ended with code 7"), (Input::Exited(End::Final), "its monitor could not tell")];
        if !says_first {
            happened.reverse();
        }
        for (input, why) in happened {
            fleet.input("chat-1", None, input, Happening::why(why));
        }
        assert_eq!(fleet.get("chat-1").unwrap().why, "ended with code 7", "{says_first}");
    }
}

#[test]
fn a_server_that_ends_in_order_by_itself_is_to_stay_down_unless_a_job_has_it() {
    let fleet = fleet(&Memory::default(), &["chat-1", "chat-2"]);
    fleet.claim(7, &["chat-2".into()]).unwrap();
    for id in ["chat-1", "chat-2"] {
        input(&fleet, id, Input::Joined);
        input(&fleet, id, Input::Exited(End::Clean));
    }
    assert_eq!(fleet.get("chat-1").unwrap().wanted, Wanted::Down);
    assert_eq!(fleet.get("chat-2").unwrap().wanted, Wanted::Up);
}

#[test]
fn servers_that_nobody_named_come_with_their_joining_and_go_with_their_leaving() {
    let store = Memory::default();
    let fleet = fleet(&store, &["chat-1"]);
    input(&fleet, "guest", Input::Absent);
    assert_eq!(fleet.get("guest"), None, "only a server that comes appears");
    input(&fleet, "guest", Input::Joined);
    assert_eq!(fleet.get("guest").unwrap().origin, Origin::Joined);
    input(&fleet, "guest", Input::Left);
    assert_eq!(fleet.get("guest"), None);
    assert_eq!(store.keys(Shelf::Servers), ["chat-1"]);
    // A job still looks at one that it has ended. It goes when the job lets go of it.
    input(&fleet, "guest", Input::Joined);
    fleet.claim(3, &["guest".into()]).unwrap();
    input(&fleet, "guest", Input::Ending);
    input(&fleet, "guest", Input::Gone);
    assert_eq!(fleet.state("guest"), Some(State::Stopped));
    fleet.release(3, "guest");
    assert_eq!(fleet.get("guest"), None);
    assert_eq!(store.keys(Shelf::Servers), ["chat-1"]);
    for number in 0..1100 {
        input(&fleet, &format!("guest-{number}"), Input::Joined);
    }
    assert_eq!(fleet.servers().len(), 1 + 1024, "there are only so many");
}

#[test]
fn a_server_that_is_no_longer_named_is_forgotten_when_it_is_down() {
    let store = Memory::default();
    let fleet = fleet(&store, &["chat-1", "chat-2", "chat-3"]);
    input(&fleet, "chat-2", Input::Joined);
    fleet.name(&named(&["chat-3"]));
    assert_eq!(fleet.get("chat-1"), None);
    assert_eq!(fleet.get("chat-2").unwrap().origin, Origin::Joined);
    let ids: Vec<String> = fleet.servers().into_iter().map(|record| record.id).collect();
    assert_eq!(ids, ["chat-3", "chat-2"], "those that are named come first");
    fleet.name(&named(&["chat-2", "chat-3"]));
    assert_eq!(fleet.get("chat-2").unwrap().origin, Origin::Configured);
    assert_eq!(fleet.state("chat-2"), Some(State::Running));
    assert!(fleet.forget("chat-3") && !fleet.forget("chat-3"));
    assert_eq!(store.keys(Shelf::Servers), ["chat-2"]);
}

#[test]
fn a_job_owns_all_of_its_servers_or_none() {
    let fleet = fleet(&Memory::default(), &["chat-1", "chat-2"]);
    let both = ["chat-1".to_owned(), "chat-2".to_owned()];
    fleet.claim(1, &both[1..]).unwrap();
    assert_eq!(fleet.claim(2, &both), Err(BTreeMap::from([("chat-2".to_owned(), 1)])));
    assert_eq!(fleet.owner("chat-1"), None);
    assert_eq!(fleet.due(), [("chat-1".to_owned(), Due::Start)], "what a job owns is its own affair");
    fleet.release(2, "chat-2");
    assert_eq!(fleet.owner("chat-2"), Some(1), "only its owner gives it back");
    fleet.release(1, "chat-2");
    fleet.claim(2, &both).unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_server_misses_no_change_and_learns_that_it_is_forgotten() {
    let fleet = Arc::new(fleet(&Memory::default(), &["chat-1"]));
    let waiter = fleet.clone();
    let runs = tokio::spawn(async move {
        waiter.until("chat-1", |record| (record.state == State::Running).then_some(record.joins)).await
    });
    tokio::task::yield_now().await;
    input(&fleet, "chat-1", Input::Joined);
    assert_eq!(runs.await.unwrap(), Some(1));
    let waiter = fleet.clone();
    let down =
        tokio::spawn(
            async move { waiter.until("chat-1", |record| (record.state == State::Stopped).then_some(())).await },
        );
    tokio::task::yield_now().await;
    fleet.forget("chat-1");
    assert_eq!(down.await.unwrap(), None);
}

#[test]
fn a_server_that_joins_takes_the_place_of_one_that_was_lost() {
    let fleet = Fleet::load(Arc::new(Memory::default()));
    fleet.set_max_joined(2);
    let happens = |id: &str, input| fleet.input(id, Some("chat"), input, Happening::default());
    happens("a", Input::Joined);
    happens("b", Input::Joined);
    happens("c", Input::Joined);
    assert!(fleet.get("c").is_none(), "nobody gives way to it");
    happens("a", Input::Lost);
    happens("c", Input::Joined);
    assert!(fleet.get("a").is_none() && fleet.get("b").is_some() && fleet.get("c").is_some());
}
