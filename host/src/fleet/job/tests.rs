use std::time::Duration;

use super::*;
use crate::failure::code;
use crate::fleet::world::{DRAIN, Manner, Master, Memory, World};
use crate::fleet::{Input, Shelf, State, Store, Wanted};

const MINUTE: Duration = Duration::from_secs(60);

async fn master(ids: &[&str]) -> Master {
    with(&World::default(), &Memory::default(), ids).await
}

/// A master whose servers run.
async fn with(world: &World, store: &Memory, ids: &[&str]) -> Master {
    let master = Master::new(world, store, ids, Limits::default());
    assert!(master.settles().await);
    assert!(master.fleet.servers().iter().all(|record| record.state == State::Running), "{:?}", master.fleet.servers());
    world.take_most_away();
    master
}

fn order(kind: Kind, ids: &[&str]) -> Request {
    let messages = Messages { module: "console".into(), ..Messages::default() };
    Request { messages, ..Request::new(kind, ids.iter().map(|id| (*id).to_owned()), "ada") }
}

fn rolling(kind: Kind, ids: &[&str], together: u32) -> Request {
    let options = Options { rolling: true, max_unavailable: Amount::Count(together), ..Options::default() };
    Request { options, ..order(kind, ids) }
}

async fn until(jobs: &Jobs, id: JobId, is: impl Fn(&Job) -> bool) -> Job {
    let mut revision = 0;
    let came = async {
        loop {
            let job = jobs.wait(id, revision, MINUTE).await.unwrap();
            if is(&job) {
                return job;
            }
            assert!(!job.state.is_over(), "{job:?}");
            revision = job.revision;
        }
    };
    tokio::time::timeout(MINUTE * 5, came).await.expect("the job comes there")
}

async fn over(jobs: &Jobs, id: JobId) -> Job {
    until(jobs, id, |job| job.state.is_over()).await
}

fn outcomes(job: &Job) -> Vec<Option<Outcome>> {
    job.servers.iter().map(|server| server.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn s4_a_rolling_restart_has_never_more_servers_away_than_it_may() {
    let ids = ["a-1", "a-2", "a-3", "a-4", "a-5", "b-1", "b-2"];
    let master = master(&ids).await;
    let before: Vec<u64> = master.fleet.servers().iter().map(|record| record.joins).collect();
    let job = master.jobs.submit(rolling(Kind::Restart, &ids, 2)).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!(job.state, JobState::Done, "{job:?}");
    assert_eq!(master.world.take_most_away(), 2);
    let after: Vec<u64> = master.fleet.servers().iter().map(|record| record.joins).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before + 1 == *after), "each was restarted once");
    let job = master.jobs.submit(order(Kind::Restart, &ids)).await.unwrap();
    over(&master.jobs, job.id).await;
    assert_eq!(master.world.take_most_away(), ids.len(), "all go together without that option");
}

#[tokio::test(start_paused = true)]
async fn s4_a_rolling_job_pauses_after_a_failure_and_goes_on_when_it_is_resumed() {
    let master = master(&["a-1", "a-2", "a-3"]).await;
    master.world.behaves("a-1", Manner::Silent);
    let job = master.jobs.submit(rolling(Kind::Restart, &["a-1", "a-2", "a-3"], 1)).await.unwrap();
    let paused = until(&master.jobs, job.id, |job| job.state == JobState::Paused).await;
    assert_eq!(outcomes(&paused), [Some(Outcome::Failed), None, None]);
    assert_eq!(paused.servers[0].code.as_deref(), Some(code::TIMEOUT));
    master.jobs.resume(job.id).unwrap();
    assert_eq!(master.jobs.resume(job.id).unwrap_err().code, code::NOT_AVAILABLE, "a second one resumes nothing");
    let job = over(&master.jobs, job.id).await;
    assert_eq!((job.state, outcomes(&job)[1..].to_vec()), (JobState::Failed, vec![Some(Outcome::Done); 2]));
    // With `continue` it does not pause.
    let mut request = rolling(Kind::Restart, &["a-1", "a-2"], 1);
    request.options.on_failure = OnFailure::Continue;
    let job = master.jobs.submit(request).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!(outcomes(&job), [Some(Outcome::Failed), Some(Outcome::Done)]);
}

#[tokio::test(start_paused = true)]
async fn s4_a_cancelled_job_puts_back_what_drains_and_leaves_what_was_not_begun() {
    let master = master(&["a-1", "a-2"]).await;
    let job = master.jobs.submit(rolling(Kind::Drain, &["a-1", "a-2"], 1)).await.unwrap();
    until(&master.jobs, job.id, |job| job.servers[0].step == Step::Draining).await;
    assert_eq!(master.fleet.get("a-2").unwrap().wanted, Wanted::Down);
    master.jobs.cancel(job.id, "bob").unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!((job.state, outcomes(&job)), (JobState::Cancelled, vec![Some(Outcome::Cancelled); 2]));
    assert_eq!(job.why, "cancelled by bob");
    assert!(master.settles().await);
    for id in ["a-1", "a-2"] {
        let record = master.fleet.get(id).unwrap();
        assert_eq!((record.state, record.wanted, master.world.launches(id)), (State::Running, Wanted::Up, 1), "{id}");
    }
    assert_eq!(master.jobs.cancel(job.id, "bob").unwrap_err().code, code::NOT_AVAILABLE);
    // A restart that has ended its server begins it before it is over.
    master.world.behaves("a-1", Manner::Good);
    let mut request = rolling(Kind::Restart, &["a-1", "a-2"], 1);
    request.options.drain = true;
    let job = master.jobs.submit(request.clone()).await.unwrap();
    until(&master.jobs, job.id, |job| job.servers[0].step == Step::Stopping).await;
    master.jobs.cancel(job.id, "bob").unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!(outcomes(&job), [Some(Outcome::Done), Some(Outcome::Cancelled)]);
    assert_eq!(master.fleet.state("a-1"), Some(State::Running));
    // The drain of a restart is put back as well, of one server alone.
    let job = master.jobs.submit(Request { options: Options { drain: true, ..Options::default() }, ..request }).await;
    let job = job.unwrap();
    until(&master.jobs, job.id, |job| job.servers.iter().all(|server| server.step == Step::Draining)).await;
    assert!(master.jobs.undrain("a-2") && !master.jobs.undrain("nobody"));
    let job = over(&master.jobs, job.id).await;
    assert_eq!(outcomes(&job), [Some(Outcome::Done), Some(Outcome::Cancelled)]);
    assert_eq!(master.fleet.state("a-2"), Some(State::Running));
}

#[tokio::test(start_paused = true)]
async fn s4_a_second_job_for_a_server_is_refused_with_the_first_ones_number_or_waits() {
    let master = master(&["a-1", "a-2"]).await;
    let first = master.jobs.submit(order(Kind::Restart, &["a-1"])).await.unwrap();
    let refused = master.jobs.submit(order(Kind::Restart, &["a-1", "a-2"])).await.unwrap_err();
    assert_eq!(refused.code, code::BUSY);
    assert!(refused.message.contains(&format!("job {}", first.id)), "{}", refused.message);
    assert_eq!(master.fleet.owner("a-2"), None);
    assert_eq!(master.jobs.list().len(), 2, "a refused order is no job: the start and the first restart");
    let second = master.jobs.submit(Request { queue: true, ..order(Kind::Stop, &["a-1", "a-2"]) }).await.unwrap();
    assert_eq!(second.state, JobState::Queued);
    assert_eq!(master.fleet.get("a-1").unwrap().wanted, Wanted::Up, "what waits wants nothing yet");
    let second = over(&master.jobs, second.id).await;
    assert_eq!(second.state, JobState::Done);
    assert_eq!(master.jobs.get(first.id).unwrap().state, JobState::Done);
    assert!(!master.world.is_up("a-1") && !master.world.is_up("a-2"));
    // One that waits can be cancelled, and changes nothing.
    let first = master.jobs.submit(order(Kind::Start, &["a-1"])).await.unwrap();
    let second = master.jobs.submit(Request { queue: true, ..order(Kind::Start, &["a-1"]) }).await.unwrap();
    master.jobs.cancel(second.id, "bob").unwrap();
    assert_eq!(over(&master.jobs, second.id).await.state, JobState::Cancelled);
    assert_eq!(over(&master.jobs, first.id).await.state, JobState::Done);
}

#[tokio::test(start_paused = true)]
async fn s4_a_kill_takes_over_a_stop_and_a_stop_takes_over_a_start() {
    let master = master(&["a-1", "a-2", "a-3"]).await;
    master.world.behaves("a-1", Manner::Hangs);
    let stop = master.jobs.submit(order(Kind::Stop, &["a-1"])).await.unwrap();
    until(&master.jobs, stop.id, |job| job.servers[0].step == Step::Stopping).await;
    let kill = master.jobs.submit(order(Kind::Kill, &["a-1"])).await.unwrap();
    assert_eq!(over(&master.jobs, kill.id).await.state, JobState::Done);
    assert_eq!(outcomes(&over(&master.jobs, stop.id).await), [Some(Outcome::TakenOver)]);
    assert!(!master.world.is_up("a-1"));
    master.world.behaves("a-1", Manner::Silent);
    let start = master.jobs.submit(order(Kind::Start, &["a-1"])).await.unwrap();
    until(&master.jobs, start.id, |job| job.servers[0].step == Step::Starting).await;
    let stop = master.jobs.submit(order(Kind::Stop, &["a-1"])).await.unwrap();
    assert_eq!(over(&master.jobs, stop.id).await.state, JobState::Done);
    assert_eq!(outcomes(&over(&master.jobs, start.id).await), [Some(Outcome::TakenOver)]);
    assert!(master.settles().await);
    assert!(!master.world.is_up("a-1"));
    // Also where the first job has not begun the server: it lets go of it at once.
    master.world.behaves("a-2", Manner::Hangs);
    let first = master.jobs.submit(rolling(Kind::Stop, &["a-2", "a-3"], 1)).await.unwrap();
    until(&master.jobs, first.id, |job| job.servers[0].step == Step::Stopping).await;
    let kill = master.jobs.submit(order(Kind::Kill, &["a-3"])).await.unwrap();
    assert_eq!(over(&master.jobs, kill.id).await.state, JobState::Done);
    assert_eq!(outcomes(&master.jobs.get(first.id).unwrap()), [None, Some(Outcome::TakenOver)]);
}

#[tokio::test(start_paused = true)]
async fn s4_a_server_is_ready_in_time_and_stays_so_or_the_job_says_why_not() {
    let master = master(&["a-1", "a-2", "a-3"]).await;
    for (id, manner) in [("a-1", Manner::Silent), ("a-2", Manner::Dies), ("a-3", Manner::NotStarted)] {
        let job = master.jobs.submit(order(Kind::Stop, &[id])).await.unwrap();
        over(&master.jobs, job.id).await;
        master.world.behaves(id, manner);
    }
    let job = master.jobs.submit(order(Kind::Start, &["a-1", "a-2", "a-3", "nobody"])).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    let codes: Vec<&str> = job.servers.iter().map(|server| server.code.as_deref().unwrap_or_default()).collect();
    assert_eq!(codes, [code::TIMEOUT, code::FAILED, code::NOT_AVAILABLE, code::NOT_FOUND]);
    assert!(job.servers[1].why.contains("ended with code 7"), "{:?}", job.servers[1]);
    assert_eq!(master.fleet.state("a-3"), Some(State::Failed));
    assert!(master.fleet.due().is_empty(), "a server that cannot be started is not tried for ever");
    // Ready, but not for long enough.
    master.world.behaves("a-2", Manner::Good);
    let mut request = order(Kind::Start, &["a-2"]);
    request.options.min_ready_ms = 10_000;
    let job = master.jobs.submit(request.clone()).await.unwrap();
    until(&master.jobs, job.id, |job| job.servers[0].step == Step::Settling).await;
    master.ends("a-2", crate::fleet::End::Final);
    assert_eq!(over(&master.jobs, job.id).await.state, JobState::Failed);
    let job = master.jobs.submit(request).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(over(&master.jobs, job.id).await.state, JobState::Done);
    assert!(began.elapsed() >= Duration::from_secs(10), "time is paused: nothing but the wait has passed it");
}

#[tokio::test(start_paused = true)]
async fn c2_a_server_that_refuses_to_end_is_wanted_up_again_and_one_that_was_not_reached_is_not() {
    let master = Master::new(&World::default(), &Memory::default(), &["a-1", "t-0"], Limits::default());
    master.somebody_starts("t-0");
    assert!(master.settles().await);
    master.world.behaves("a-1", Manner::Refuses);
    let job = master.jobs.submit(order(Kind::Stop, &["a-1"])).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!(job.state, JobState::Failed);
    let record = master.fleet.get("a-1").unwrap();
    assert_eq!((record.wanted, record.state), (Wanted::Up, State::Running));
    assert!(record.wanted_by.contains("not now"), "{}", record.wanted_by);
    master.loses("t-0");
    let job = master.jobs.submit(order(Kind::Stop, &["t-0"])).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!(job.servers[0].code.as_deref(), Some(code::UNREACHABLE));
    assert_eq!(master.fleet.get("t-0").unwrap().wanted, Wanted::Down);
    master.all_are_back(&["t-0"]);
    assert!(master.settles().await);
    assert!(!master.world.is_up("t-0"), "it is ended once it is there");
}

#[tokio::test(start_paused = true)]
async fn s4_a_server_that_backs_off_is_begun_at_once_by_a_start_and_by_a_restart() {
    for kind in [Kind::Start, Kind::Restart] {
        let master = master(&["a-1"]).await;
        master.ends("a-1", crate::fleet::End::Again);
        assert_eq!(master.fleet.state("a-1"), Some(State::BackingOff));
        let job = master.jobs.submit(order(kind, &["a-1"])).await.unwrap();
        let job = over(&master.jobs, job.id).await;
        assert_eq!(job.state, JobState::Done, "{job:?}");
        assert!(master.settles().await);
        assert_eq!((master.world.launches("a-1"), master.world.is_up("a-1")), (2, true));
    }
}

#[tokio::test(start_paused = true)]
async fn s4_a_start_of_a_server_that_drains_puts_it_back() {
    let master = master(&["a-1"]).await;
    master.fleet.input("a-1", None, Input::SaysDraining, crate::fleet::Happening::default());
    let job = master.jobs.submit(order(Kind::Start, &["a-1"])).await.unwrap();
    assert_eq!(over(&master.jobs, job.id).await.state, JobState::Done);
    assert_eq!(master.fleet.state("a-1"), Some(State::Running));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_since_a_job_that_was_lost_is_given_its_time() {
    let master = master(&["a-1"]).await;
    master.fleet.input("a-1", None, Input::SaysDraining, crate::fleet::Happening::default());
    let began = tokio::time::Instant::now();
    let job = master.jobs.submit(order(Kind::Drain, &["a-1"])).await.unwrap();
    assert_eq!(over(&master.jobs, job.id).await.state, JobState::Done);
    // The clock is the test's own, and moves only when all wait.
    assert!(began.elapsed() >= DRAIN, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn jobs_are_bounded_and_the_oldest_that_are_over_go_first() {
    let (world, store) = (World::default(), Memory::default());
    world.behaves("a-1", Manner::Silent);
    let limits = Limits { under_way: 2, kept: 3 };
    let master = Master::new(&world, &store, &["a-1", "a-2", "a-3"], limits);
    let first = master.jobs.submit(order(Kind::Start, &["a-1"])).await.unwrap();
    let waits = Request { queue: true, ..order(Kind::Start, &["a-1"]) };
    master.jobs.submit(waits.clone()).await.unwrap();
    assert_eq!(master.jobs.submit(waits).await.unwrap_err().code, code::BUSY);
    assert_eq!(master.jobs.count_under_way(), 2);
    over(&master.jobs, first.id).await;
    for _ in 0..5 {
        let job = master.jobs.submit(order(Kind::Start, &["a-2"])).await.unwrap();
        over(&master.jobs, job.id).await;
        while master.jobs.count_under_way() > 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let over = master.jobs.list().into_iter().filter(|job| job.state.is_over()).count();
    assert_eq!(over, 3);
    assert_eq!(
        store.keys(Shelf::Jobs).len(),
        2 * (3 + master.jobs.count_under_way()),
        "a row for each, and for its server"
    );
    assert_eq!(master.jobs.get(first.id).unwrap_err().code, code::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn s4_what_was_under_way_is_interrupted_with_what_was_done_when_the_next_master_begins() {
    let (world, store) = (World::default(), Memory::default());
    let master = with(&world, &store, &["a-1", "a-2", "a-3"]).await;
    world.behaves("a-2", Manner::Hangs);
    let job = master.jobs.submit(rolling(Kind::Stop, &["a-1", "a-2", "a-3"], 1)).await.unwrap();
    until(&master.jobs, job.id, |job| job.servers[1].step == Step::Stopping).await;
    world.master_ended();
    let next = Master::new(&world, &store, &["a-1", "a-2", "a-3"], Limits::default());
    let told = next.jobs.get(job.id).unwrap();
    assert_eq!(told.state, JobState::Interrupted);
    assert_eq!(outcomes(&told), [Some(Outcome::Done), Some(Outcome::Interrupted), Some(Outcome::Interrupted)]);
    assert!(told.ended.is_some() && next.jobs.count_under_way() == 0);
    assert!(next.settles().await);
    assert!(["a-1", "a-2", "a-3"].iter().all(|id| !world.is_up(id)), "what was ordered is still wanted");
    // The monitors are asked as they were asked last, by whatever master.
    world.behaves("a-2", Manner::Good);
    let start = next.jobs.submit_again(Request::new(Kind::Start, ["a-2".to_owned()], "bob")).await.unwrap();
    assert!(start.id > job.id);
    assert_eq!(start.messages.module, "console");
    assert_eq!(world.asked_by().into_iter().collect::<Vec<_>>(), ["console"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_job_costs_to_keep_grows_with_its_servers_and_not_with_their_square() {
    const SERVERS: usize = 2000;
    let ids: Vec<String> = (0..SERVERS).map(|number| format!("s-{number}")).collect();
    let (known, unknown) = ids.split_at(SERVERS / 2);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let (world, store) = (World::default(), Memory::default());
    let master = with(&world, &store, &known).await;
    *store.put_bytes.lock() = 0;
    let all: Vec<&str> = known.iter().copied().chain(unknown.iter().map(String::as_str)).collect();
    let job = master.jobs.submit(order(Kind::Stop, &all)).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    assert_eq!((job.count(Outcome::Done), job.count(Outcome::Failed)), (SERVERS / 2, SERVERS / 2));
    let bytes = *store.put_bytes.lock();
    assert!(bytes < SERVERS * 4096, "{bytes} bytes were put for {SERVERS} servers");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_servers_were_kept_in_its_own_row_is_read() {
    let (world, store) = (World::default(), Memory::default());
    let master = with(&world, &store, &["a-1", "a-2"]).await;
    let job = master.jobs.submit(order(Kind::Restart, &["a-1", "a-2"])).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    let row = serde_json::json!({"job": job, "messages": job.messages}).to_string();
    store.keys(Shelf::Jobs).iter().for_each(|key| store.put(Shelf::Jobs, key, None));
    store.put(Shelf::Jobs, &job.id.to_string(), Some(row));
    let next = Master::new(&World::default(), &store, &["a-1", "a-2"], Limits::default());
    assert_eq!(next.jobs.get(job.id).unwrap().servers, job.servers);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_job_that_was_never_written_is_in_no_other_job() {
    let (world, store) = (World::default(), Memory::default());
    let master = with(&world, &store, &["a-1", "a-2"]).await;
    let job = master.jobs.submit(order(Kind::Restart, &["a-1", "a-2"])).await.unwrap();
    let job = over(&master.jobs, job.id).await;
    let row = |id: &str| serde_json::to_string(&ServerProgress { id: id.into(), ..job.servers[0].clone() }).ok();
    let kept = store.keys(Shelf::Jobs);
    // A row beyond the servers of that job, and one of a job that is not there.
    store.put(Shelf::Jobs, &format!("{}/2", job.id), row("b-1"));
    store.put(Shelf::Jobs, &format!("{}/0", job.id + 1), row("b-2"));
    let next = Master::new(&World::default(), &store, &["a-1", "a-2"], Limits::default());
    assert_eq!(next.jobs.get(job.id).unwrap().servers, job.servers);
    assert_eq!(store.keys(Shelf::Jobs), kept);
    let later = next.jobs.submit(order(Kind::Restart, &["a-1"])).await.unwrap();
    assert_eq!((later.id, later.servers.len()), (job.id + 2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_kept_is_refused_and_changes_nothing() {
    let (world, store) = (World::default(), Memory::default());
    let master = with(&world, &store, &["a-1"]).await;
    *store.broken.lock() = true;
    let count = master.jobs.list().len();
    for kind in [Kind::Drain, Kind::Restart, Kind::Start, Kind::Add] {
        assert_eq!(master.jobs.submit(order(kind, &["a-1"])).await.unwrap_err().code, code::FAILED, "{kind:?}");
        assert_eq!(master.jobs.list().len(), count, "{kind:?}");
    }
    assert_eq!((master.fleet.get("a-1").unwrap().wanted, master.fleet.owner("a-1")), (Wanted::Up, None));
    assert!(master.settles().await && world.is_up("a-1"));
}

#[tokio::test(start_paused = true)]
async fn what_ends_servers_is_carried_out_where_it_cannot_be_kept_and_says_so() {
    for kind in [Kind::Stop, Kind::Kill] {
        let (world, store) = (World::default(), Memory::default());
        let master = with(&world, &store, &["a-1"]).await;
        *store.broken.lock() = true;
        let job = master.jobs.submit(order(kind, &["a-1"])).await.unwrap();
        assert!(job.notes[0].contains("not on the disk yet: the disk is full"), "{:?}", job.notes);
        assert_eq!(over(&master.jobs, job.id).await.state, JobState::Done);
        assert!(!world.is_up("a-1") && master.fleet.get("a-1").unwrap().wanted == Wanted::Down);
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_carried_out_even_if_nobody_waits_for_the_answer() {
    let master = master(&["a-1"]).await;
    // Polled once, so that the order is given, and then dropped.
    let submitted = futures_util::poll!(Box::pin(master.jobs.submit(order(Kind::Stop, &["a-1"]))));
    assert!(submitted.is_pending());
    let id = master.jobs.list()[0].id;
    assert_eq!(over(&master.jobs, id).await.state, JobState::Done);
    assert!(!master.world.is_up("a-1") && master.fleet.owner("a-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_job_is_told_of_each_change_and_not_before() {
    let master = master(&["a-1"]).await;
    master.world.behaves("a-1", Manner::Hangs);
    let job = master.jobs.submit(order(Kind::Stop, &["a-1"])).await.unwrap();
    let job = until(&master.jobs, job.id, |job| job.servers[0].step == Step::Stopping).await;
    let same = master.jobs.wait(job.id, job.revision, MINUTE).await.unwrap();
    assert_eq!(same.revision, job.revision, "nothing has changed within the wait");
    let waits = master.jobs.clone();
    let newer = tokio::spawn(async move { waits.wait(job.id, job.revision, MINUTE).await });
    tokio::task::yield_now().await;
    master.jobs.submit(order(Kind::Kill, &["a-1"])).await.unwrap();
    assert!(newer.await.unwrap().unwrap().revision > job.revision);
    let over = over(&master.jobs, job.id).await;
    let again = master.jobs.wait(job.id, over.revision, MINUTE).await.unwrap();
    assert_eq!(again.state, over.state, "a job that is over is told at once");
    assert_eq!(master.jobs.wait(99, 0, MINUTE).await.unwrap_err().code, code::NOT_FOUND);
}
