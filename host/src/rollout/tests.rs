use super::*;

fn version(digest: &str) -> FileVersion {
    FileVersion { digest: digest.into(), size: 1 }
}

fn begun(digest: &str) -> Change {
    Change::Begun { name: "echo".into(), version: version(digest) }
}

fn settled(digest: &str) -> Change {
    Change::Settled { name: "echo".into(), version: Some(version(digest)) }
}

fn reached(digest: &str, wave: usize, servers: usize) -> Change {
    Change::Reached { name: "echo".into(), version: version(digest), wave, servers }
}

/// Servers that run what they are offered, or refuse some version.
struct Fleet {
    rollouts: Rollouts,
    servers: Vec<(&'static str, &'static str)>,
    refusing: Option<(&'static str, &'static str)>,
    runs: BTreeMap<&'static str, BTreeMap<String, Running>>,
    now: Instant,
}

impl Fleet {
    fn new(waves: &[&str], settled: &[(&str, &str)]) -> Self {
        let waves = waves.iter().map(|wave| wave.parse().unwrap()).collect();
        let file = |digest: &str| File { settled: Some(version(digest)), ..File::default() };
        let settled = settled.iter().map(|(name, digest)| ((*name).to_owned(), file(digest))).collect();
        Fleet {
            rollouts: Rollouts::new(Options { waves, wave_time: Duration::from_secs(10) }, settled),
            servers: vec![("chat-1", "chat"), ("chat-2", "chat"), ("gate-1", "gate"), ("gate-2", "gate")],
            refusing: None,
            runs: BTreeMap::new(),
            now: Instant::now(),
        }
    }

    /// The master has that version of `echo` in force.
    fn observe(&mut self, digest: Option<&str>) -> Vec<Change> {
        self.rollouts.observe(&BTreeMap::from([("echo", digest.map(version).as_ref())]))
    }

    /// All monitors do as they are offered.
    fn obey(&mut self) {
        for (id, _) in &self.servers {
            let runs = self.runs.entry(id).or_default();
            for offer in self.rollouts.offers(id).files {
                let Some(FileVersion { digest, .. }) = offer.version else { continue };
                let running = runs.entry(offer.name.clone()).or_default();
                running.offered = Some(digest.clone());
                running.refused = (self.refusing == Some((id, &digest))).then(|| "it trapped".into());
                if running.refused.is_none() {
                    running.digest = Some(digest);
                }
            }
        }
    }

    fn step(&mut self) -> Vec<Change> {
        let none = BTreeMap::new();
        let taker = |(id, server_type): &(&'static str, &'static str)| Taker {
            id,
            server_type,
            runs: self.runs.get(id).unwrap_or(&none),
        };
        let takers: Vec<_> = self.servers.iter().map(taker).collect();
        self.rollouts.step(&takers, self.now)
    }

    /// What each server is offered of a file.
    fn offered(&self, name: &str) -> Vec<String> {
        let of = |(id, _): &(&str, &str)| {
            let offers = self.rollouts.offers(id).files;
            let offer = offers.into_iter().find(|offer| offer.name == name);
            offer.map_or("gone".into(), |offer| offer.version.map_or("held".into(), |version| version.digest))
        };
        self.servers.iter().map(of).collect()
    }

    fn pass(&mut self) -> Vec<Change> {
        self.obey();
        assert_eq!(self.step(), [], "it has not been run for long enough");
        self.now += Duration::from_secs(10);
        self.step()
    }
}

#[test]
fn without_waves_all_are_offered_what_is_in_force_and_what_is_refused_takes_nothing_away() {
    let mut fleet = Fleet::new(&[], &[]);
    assert_eq!(fleet.observe(Some("a")), [settled("a")]);
    assert_eq!(fleet.offered("echo"), ["a"; 4]);
    assert_eq!(fleet.observe(Some("b")), [settled("b")]);
    assert_eq!(fleet.observe(None), []);
    assert_eq!(fleet.offered("echo"), ["held"; 4], "everybody goes on with what it has");
    assert_eq!(fleet.observe(Some("b")), []);
    assert_eq!(fleet.offered("echo"), ["b"; 4]);
    assert_eq!(fleet.rollouts.observe(&BTreeMap::new()), [Change::Settled { name: "echo".into(), version: None }]);
    assert_eq!(fleet.offered("echo"), ["gone"; 4]);
}

#[test]
fn a_rollout_goes_from_wave_to_wave_and_then_to_all() {
    let mut fleet = Fleet::new(&["1", "type:gate"], &[("echo", "a")]);
    assert_eq!(fleet.observe(Some("a")), []);
    fleet.obey();
    assert_eq!(fleet.observe(Some("b")), [begun("b")]);
    assert_eq!(fleet.step(), [reached("b", 1, 1)]);
    assert_eq!(fleet.offered("echo"), ["b", "a", "a", "a"]);
    assert_eq!(fleet.step(), [], "it does not run there yet");
    assert_eq!(fleet.pass(), [reached("b", 2, 2)]);
    assert_eq!(fleet.offered("echo"), ["b", "a", "b", "b"]);
    // One that is away is not waited for, and comes back to what it is to run.
    let away = fleet.servers.remove(2);
    assert_eq!(fleet.pass(), [settled("b")]);
    fleet.servers.push(away);
    assert_eq!(fleet.offered("echo"), ["b"; 4]);
    assert!(fleet.rollouts.progress().all(|(_, rollout)| rollout.is_none()));
}

#[test]
fn one_server_that_refuses_a_version_ends_its_rollout_for_all() {
    let mut fleet = Fleet::new(&["50%"], &[("echo", "a")]);
    fleet.observe(Some("a"));
    fleet.obey();
    fleet.observe(Some("b"));
    assert_eq!(fleet.step().len(), 1);
    assert_eq!(fleet.offered("echo"), ["b", "b", "a", "a"]);
    fleet.refusing = Some(("chat-2", "b"));
    fleet.obey();
    let (server, why) = ("chat-2".to_owned(), "it trapped".to_owned());
    assert_eq!(fleet.step(), [Change::Failed { name: "echo".into(), version: version("b"), server, why }]);
    assert_eq!(fleet.offered("echo"), ["a"; 4]);
    // The master has it in force for a moment more.
    assert_eq!(fleet.observe(Some("b")), []);
    assert_eq!((fleet.step(), fleet.offered("echo")), (vec![], vec!["a".to_owned(); 4]));
    fleet.observe(Some("a"));
    // Dropped anew it gets another chance.
    fleet.refusing = None;
    fleet.observe(Some("b"));
    assert_eq!(fleet.step().len(), 1);
    assert_eq!(fleet.offered("echo"), ["b", "b", "a", "a"]);
}

#[test]
fn nothing_is_shown_by_servers_that_are_not_there() {
    let mut fleet = Fleet::new(&["1", "50%"], &[("echo", "a")]);
    fleet.observe(Some("a"));
    fleet.observe(Some("b"));
    let all = std::mem::take(&mut fleet.servers);
    for _ in 0..9 {
        fleet.now += Duration::from_secs(100);
        assert_eq!(fleet.step(), [], "nobody is there");
    }
    fleet.servers = all;
    assert_eq!(fleet.step(), [reached("b", 1, 1)]);
    fleet.obey();
    // The first one goes for good: another one is chosen in its place.
    fleet.servers.remove(0);
    assert_eq!(fleet.step(), []);
    fleet.now += Duration::from_secs(10);
    assert_eq!(fleet.step(), [reached("b", 1, 1)]);
    assert_eq!(fleet.offered("echo"), ["b", "a", "a"]);
    // Nobody is there for a while: the time does not count.
    fleet.obey();
    assert_eq!(fleet.step(), []);
    let all = std::mem::take(&mut fleet.servers);
    fleet.now += Duration::from_secs(100);
    assert_eq!(fleet.step(), []);
    fleet.servers = all;
    assert_eq!(fleet.step(), []);
    fleet.now += Duration::from_secs(10);
    assert_eq!(fleet.step(), [reached("b", 2, 1)]);
    // Those of the wave are away, the others are no more than before, and the waves are fewer: nothing is shown, and nothing is told.
    fleet.servers.retain(|(id, _)| *id == "gate-2");
    fleet.rollouts.set_options(Options { waves: vec![Wave::Type("chat".into())], ..Options::default() });
    for _ in 0..9 {
        fleet.now += Duration::from_secs(100);
        assert_eq!(fleet.step(), []);
    }
    // A wave of a type that is not there is waited for if it is the first, and left out if it is not.
    let mut fleet = Fleet::new(&["type:none"], &[("echo", "a")]);
    fleet.observe(Some("b"));
    fleet.now += Duration::from_secs(100);
    assert_eq!((fleet.step(), fleet.offered("echo")), (vec![], vec!["a".to_owned(); 4]));
}

#[test]
fn a_version_that_is_in_force_and_keeps_trapping_ends_its_rollout() {
    let mut fleet = Fleet::new(&["1"], &[("echo", "a")]);
    fleet.observe(Some("a"));
    fleet.obey();
    fleet.observe(Some("b"));
    fleet.step();
    fleet.obey();
    assert_eq!(fleet.step(), []);
    fleet.runs.get_mut("chat-1").unwrap().get_mut("echo").unwrap().refused = Some("it keeps trapping".into());
    assert!(matches!(&fleet.step()[..], [Change::Failed { server, .. }] if server == "chat-1"));
    assert_eq!(fleet.offered("echo"), ["a"; 4]);
}

#[test]
fn what_a_server_says_of_another_version_ends_no_rollout() {
    let mut fleet = Fleet::new(&["1"], &[("echo", "a")]);
    fleet.observe(Some("a"));
    fleet.refusing = Some(("chat-1", "a"));
    fleet.obey();
    // The version that mends it.
    fleet.observe(Some("b"));
    assert_eq!(fleet.step(), [reached("b", 1, 1)]);
    assert_eq!(fleet.step(), [], "it has not said yet what came of it");
    assert_eq!(fleet.pass(), [settled("b")]);
}

#[test]
fn a_rollout_goes_on_when_the_master_begins_anew_and_a_version_that_was_good_needs_none() {
    let mut fleet = Fleet::new(&["1", "2"], &[("echo", "a")]);
    fleet.observe(Some("a"));
    fleet.obey();
    fleet.observe(Some("b"));
    assert_eq!(fleet.step(), [reached("b", 1, 1)]);
    let kept = serde_json::to_string(fleet.rollouts.file("echo").unwrap()).unwrap();
    let files = BTreeMap::from([("echo".to_owned(), serde_json::from_str(&kept).unwrap())]);
    fleet.rollouts = Rollouts::new(fleet.rollouts.options.clone(), files);
    assert_eq!(fleet.observe(Some("b")), []);
    assert_eq!(fleet.offered("echo"), ["b", "a", "a", "a"]);
    assert_eq!(fleet.pass(), [reached("b", 2, 1)]);
    assert_eq!(fleet.pass(), [settled("b")]);
    // Back to the one before, at once.
    assert_eq!(fleet.observe(Some("a")), [settled("a")]);
    assert_eq!(fleet.offered("echo"), ["a"; 4]);
    // A rollout that has failed has failed for the next process too.
    fleet.observe(Some("c"));
    fleet.step();
    fleet.refusing = Some(("chat-1", "c"));
    fleet.obey();
    assert!(matches!(fleet.step()[..], [Change::Failed { .. }]));
    let files = BTreeMap::from([("echo".to_owned(), fleet.rollouts.file("echo").unwrap().clone())]);
    fleet.rollouts = Rollouts::new(fleet.rollouts.options.clone(), files);
    assert_eq!((fleet.observe(Some("c")), fleet.step()), (vec![], vec![]));
}

#[test]
fn waves_are_numbers_percentages_and_types() {
    let good = [("2", Wave::Servers(2)), ("5%", Wave::Percent(5)), ("type:a", Wave::Type("a".into()))];
    for (text, wave) in good {
        assert_eq!(text.parse(), Ok(wave));
    }
    for bad in ["", "0", "0%", "101%", "type:", "-1", "x", "%"] {
        assert_eq!(bad.parse::<Wave>(), Err(()), "{bad}");
    }
}
