//! Orders, joins, losses, ends and new masters in any order: whatever happens, what is wanted is reached in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::fleet::job::{JobState, Kind, Limits, Options, Request};
use crate::fleet::world::{Master, Memory, World};
use crate::fleet::{End, Place, State, Wanted};

const IDS: [&str; 5] = ["a-1", "a-2", "b-1", "t-1", "t-2"];

#[derive(Clone, Debug)]
enum Does {
    Order { kind: Kind, ids: BTreeSet<usize>, rolling: bool, drain: bool, queue: bool },
    Cancel,
    Undrain(usize),
    SomebodyStarts(usize),
    Ends(usize, End),
    Loses(usize),
    AllAreBack,
    Waits(u64),
}

fn does() -> impl Strategy<Value = Does> {
    let kind =
        prop_oneof![Just(Kind::Start), Just(Kind::Stop), Just(Kind::Kill), Just(Kind::Restart), Just(Kind::Drain)];
    let end = prop_oneof![Just(End::Again), Just(End::Clean), Just(End::Final)];
    let ids = proptest::collection::btree_set(0..IDS.len(), 1..4);
    let order = (kind, ids, any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(kind, ids, rolling, drain, queue)| Does::Order { kind, ids, rolling, drain, queue });
    prop_oneof![
        5 => order,
        1 => Just(Does::Cancel),
        1 => (0..IDS.len()).prop_map(Does::Undrain),
        2 => (3..IDS.len()).prop_map(Does::SomebodyStarts),
        2 => (0..IDS.len(), end).prop_map(|(server, end)| Does::Ends(server, end)),
        1 => (3..IDS.len()).prop_map(Does::Loses),
        1 => Just(Does::AllAreBack),
        4 => (1..400_u64).prop_map(Does::Waits),
    ]
}

/// The servers whose stop was answered, and that nobody has started or put back since.
type Down = BTreeSet<&'static str>;

async fn one(master: &Master, does: &Does, down: &mut Down) {
    match does {
        Does::Order { kind, ids, rolling, drain, queue } => {
            let ids: Vec<&'static str> = ids.iter().map(|server| IDS[*server]).collect();
            let mut request = Request::new(*kind, ids.iter().map(|id| (*id).to_owned()), "ada");
            request.options = Options { rolling: *rolling, drain: *drain, ..Options::default() };
            request.queue = *queue;
            let ends = matches!(kind, Kind::Stop | Kind::Kill | Kind::Drain);
            if let Ok(job) = master.jobs.submit(request).await {
                for id in ids {
                    if !ends {
                        down.remove(id);
                    } else if master.fleet.owner(id) == Some(job.id) {
                        down.insert(id);
                    }
                }
            }
        }
        Does::Cancel => {
            let under_way = master.jobs.list().into_iter().find(|job| !job.state.is_over());
            if let Some(job) = under_way {
                job.servers.iter().for_each(|server| _ = down.remove(server.id.as_str()));
                master.jobs.cancel(job.id, "bob").unwrap();
            }
        }
        Does::Undrain(server) => {
            if master.jobs.undrain(IDS[*server]) {
                down.remove(IDS[*server]);
            }
        }
        Does::SomebodyStarts(server) => {
            down.remove(IDS[*server]);
            master.somebody_starts(IDS[*server]);
        }
        Does::Ends(server, end) => master.ends(IDS[*server], *end),
        Does::Loses(server) => master.loses(IDS[*server]),
        Does::AllAreBack => master.all_are_back(&IDS),
        Does::Waits(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
    }
}

/// What holds at every moment.
fn holds(master: &Master, down: &Down) {
    for id in IDS {
        let record = master.fleet.get(id).expect("no server is forgotten");
        if down.contains(id) {
            assert_eq!(record.wanted, Wanted::Down, "a stop of {id} that was answered is undone: {record:?}");
        }
    }
    let mut acted_on = BTreeSet::new();
    for job in master.jobs.list() {
        for server in job.servers.iter().filter(|server| server.began.is_some() && server.outcome.is_none()) {
            assert!(acted_on.insert(server.id.clone()), "two jobs act on {}", server.id);
            assert_eq!(master.fleet.owner(&server.id), Some(job.id));
        }
    }
}

/// What holds once nothing more happens.
async fn comes_to_rest(master: &Master, down: &Down) {
    master.all_are_back(&IDS);
    // A job pauses once for each server of it that fails.
    let mut settled = master.settles().await;
    loop {
        let jobs = master.jobs.list();
        let mut paused = jobs.into_iter().filter(|job| job.state == JobState::Paused).peekable();
        if paused.peek().is_none() {
            break;
        }
        paused.for_each(|job| drop(master.jobs.resume(job.id).unwrap()));
        settled = master.settles().await;
    }
    assert!(settled, "{:?} {:?}", master.fleet.servers(), master.jobs.list());
    // Who begins a server again after its back-off has done so.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(master.settles().await);
    holds(master, down);
    for id in IDS {
        let record = master.fleet.get(id).unwrap();
        assert_eq!(master.fleet.owner(id), None);
        assert_eq!(record.state == State::Running, master.world.is_up(id), "{record:?}");
        match (record.wanted, record.place) {
            (Wanted::Down, _) => assert_eq!(record.state, State::Stopped, "{record:?}"),
            (Wanted::Up, Place::Ours) => {
                assert!(matches!(record.state, State::Running | State::Failed), "{record:?}");
            }
            // Whoever is to start it has done so or not.
            (Wanted::Up, Place::Theirs) => {
                assert!(!matches!(record.state, State::Stopping | State::Draining | State::Pending), "{record:?}");
            }
        }
    }
}

fn plays(masters: &[Vec<Does>]) {
    let (world, store, mut down) = (World::default(), Memory::default(), Down::new());
    for (number, happens) in masters.iter().enumerate() {
        // The runtime of a master that is killed takes all that it does with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let master = Master::new(&world, &store, &IDS, Limits::default());
            holds(&master, &down);
            for does in happens {
                one(&master, does, &mut down).await;
                holds(&master, &down);
            }
            if number + 1 == masters.len() {
                comes_to_rest(&master, &down).await;
            }
        });
        drop(runtime);
        world.master_ended();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, rng_seed: RngSeed::Fixed(1234), ..ProptestConfig::default() })]
    #[test]
    fn s4_whatever_happens_what_is_wanted_is_reached_and_no_stop_is_undone(
        masters in proptest::collection::vec(proptest::collection::vec(does(), 0..14), 1..4)
    ) {
        plays(&masters);
    }
}
