use super::*;
use crate::plugin::CallerRole;

fn user(name: &str, level: u32) -> Caller {
    Caller { user: Some(name.into()), level: Some(level), ..Caller::of(CallerRole::Client) }
}

fn monitor(id: &str) -> Caller {
    Caller { id: Some(id.into()), ..Caller::of(CallerRole::Monitor) }
}

/// A call that traps at once.
fn trap(breaker: &Breaker, caller: &Caller, now: Instant) -> Option<PutAside> {
    breaker.enter(caller, now).unwrap_or_else(|failure| panic!("{failure}")).trapped(now)
}

fn refused(breaker: &Breaker, caller: &Caller, now: Instant) -> Option<String> {
    breaker.enter(caller, now).err().map(|failure| failure.message)
}

/// Later and later moments, because a call that began when another was counted ran beside it.
fn moments() -> impl Iterator<Item = Instant> {
    let start = Instant::now();
    (1..).map(move |number| start + Duration::from_micros(number))
}

#[test]
fn a_handler_that_keeps_trapping_is_put_aside_and_let_in_again() {
    let (breaker, admin, mut moments) = (Breaker::default(), user("admin", 1), moments());
    let mut trap_now = |breaker: &Breaker| trap(breaker, &admin, moments.next().unwrap());
    for _ in 0..TRAPS - 1 {
        assert_eq!(trap_now(&breaker), None);
    }
    let aside = trap_now(&breaker).unwrap();
    assert_eq!((aside.of.to_string().as_str(), aside.time), ("clients of level 1", FIRST));
    let mut now = Instant::now() + FIRST;
    assert!(refused(&breaker, &admin, Instant::now()).unwrap().contains("trapped 5 times in a row"));
    for times in [2, 4, 8, 16] {
        now += LONGEST;
        assert_eq!(trap(&breaker, &admin, now).unwrap().time, FIRST * times, "one more trap puts it aside again");
    }
    now += LONGEST;
    assert_eq!(trap(&breaker, &admin, now).unwrap().time, LONGEST);
    now += LONGEST;
    breaker.enter(&admin, now).unwrap().ended();
    assert_eq!(trap(&breaker, &admin, now), None, "it has its five traps again");
    assert!(breaker.aside(now).is_empty());
}

#[test]
fn a_users_traps_keep_neither_level_1_nor_other_users_from_the_handler() {
    let (breaker, mut moments) = (Breaker::default(), moments());
    let (admin, eve, bob) = (user("admin", 1), user("eve", 2), user("bob", 2));
    let traps: Vec<_> = (0..TRAPS).map(|_| trap(&breaker, &eve, moments.next().unwrap())).collect();
    assert_eq!(traps.last().unwrap().as_ref().unwrap().of.to_string(), "the user `eve`");
    let now = moments.next().unwrap();
    assert!(refused(&breaker, &eve, now).unwrap().contains("for the user `eve`"));
    for other in [&admin, &bob, &monitor("eve")] {
        assert_eq!(refused(&breaker, other, now), None, "{other:?}");
    }
    // Others of the class whose calls trap show that it is the handler and not the user.
    assert_eq!(trap(&breaker, &bob, moments.next().unwrap()), None);
    let aside = trap(&breaker, &user("carol", 2), moments.next().unwrap()).unwrap();
    assert_eq!(aside.of, AsideFor { class: Class::User, caller: None });
    let now = moments.next().unwrap();
    assert!(refused(&breaker, &user("dora", 3), now).unwrap().contains("clients of level 2 and above"));
    assert_eq!(refused(&breaker, &admin, now), None);
}

#[test]
fn monitors_are_told_apart_and_an_answer_to_one_clears_the_class() {
    let (breaker, mut moments) = (Breaker::default(), moments());
    for id in ["a", "b", "c", "d"] {
        assert_eq!(trap(&breaker, &monitor(id), moments.next().unwrap()), None);
    }
    breaker.enter(&monitor("honest"), moments.next().unwrap()).unwrap().ended();
    assert_eq!(trap(&breaker, &monitor("e"), moments.next().unwrap()), None, "the row begins anew");
    assert_eq!(breaker.aside(Instant::now()), []);
}

#[test]
fn calls_that_ran_beside_each_other_count_once() {
    let (breaker, start) = (Breaker::default(), Instant::now());
    let admin = user("admin", 1);
    let later = start + Duration::from_millis(1);
    let calls: Vec<_> = (0..100).map(|_| breaker.enter(&admin, start).unwrap()).collect();
    for call in calls {
        assert_eq!(call.trapped(later), None);
    }
    assert_eq!(breaker.classes.lock()[admin.class().index()].record.in_a_row, 1);
}

#[test]
fn one_call_at_a_time_probes_a_handler_that_was_put_aside() {
    let (breaker, mut moments, admin) = (Breaker::default(), moments(), user("admin", 1));
    (0..TRAPS).for_each(|_| drop(trap(&breaker, &admin, moments.next().unwrap())));
    let now = Instant::now() + FIRST * 2;
    let probe = breaker.enter(&admin, now).unwrap();
    assert!(refused(&breaker, &admin, now).unwrap().contains("until a call that is under way"));
    assert_eq!(breaker.aside(now).len(), 1, "it is aside for all others");
    // One that ends by its deadline shows nothing, and the next call is the probe.
    drop(probe);
    let probe = breaker.enter(&admin, now).unwrap();
    assert!(refused(&breaker, &admin, now).is_some());
    probe.ended();
    assert_eq!(refused(&breaker, &admin, now), None);
    assert!(!breaker.troubled.load(Ordering::Acquire));
}

#[test]
fn a_call_that_began_before_the_traps_does_not_end_the_time_aside() {
    let (breaker, mut moments, admin) = (Breaker::default(), moments(), user("admin", 1));
    let early = breaker.enter(&admin, moments.next().unwrap()).unwrap();
    (0..TRAPS).for_each(|_| drop(trap(&breaker, &admin, moments.next().unwrap())));
    early.ended();
    assert!(refused(&breaker, &admin, moments.next().unwrap()).is_some());
}

#[test]
fn the_callers_that_are_remembered_are_bounded() {
    let (breaker, mut moments) = (Breaker::default(), moments());
    for number in 0..2 * MAX_CALLERS {
        let caller = monitor(&format!("m-{number}"));
        if let Ok(entry) = breaker.enter(&caller, moments.next().unwrap()) {
            drop(entry.trapped(moments.next().unwrap()));
            // Another's answer, so that the class is not put aside.
            breaker.classes.lock()[Class::Monitor.index()].record = Record::default();
        }
    }
    let classes = breaker.classes.lock();
    let callers = &classes[Class::Monitor.index()].callers;
    assert_eq!(callers.len(), MAX_CALLERS);
    assert!(callers.contains_key(&format!("m-{}", 2 * MAX_CALLERS - 1)), "the newest stay");
}
