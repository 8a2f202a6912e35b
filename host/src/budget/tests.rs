use std::sync::atomic::AtomicBool;

use futures_util::task::noop_waker;

use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn budget(total: usize) -> Budget {
    Budget::new(Limits { total, connection: 400 << 10, calls: 2 })
}

/// An account of a class, and whether it was turned away.
fn account(budget: &Budget, from: u8, class: Class) -> (Account, Arc<AtomicBool>) {
    let away = Arc::new(AtomicBool::new(false));
    let told = away.clone();
    let account = budget.open(address(from), move |_| told.store(true, Ordering::Relaxed));
    account.belongs_to(class);
    (account, away)
}

#[test]
fn what_is_charged_is_given_back() {
    let budget = budget(1 << 20);
    let (monitor, _) = account(&budget, 1, Class::Stranger);
    let mut charge = monitor.charge(1000).unwrap();
    monitor.belongs_to(Class::Monitor);
    charge.resize(5000).unwrap();
    let call = monitor.begin_call(700).unwrap();
    let held = budget.held();
    assert_eq!((held.total, held.by_class[Class::Monitor.index()]), (monitor.held(), held.total));
    assert_eq!((charge.bytes(), held.total > 5000 + 3 * 700), (5000, true));
    charge.resize(1).unwrap();
    drop((charge, call, monitor));
    assert_eq!(budget.held(), Held { total: 0, by_class: [0; 6], shared: 0 });
    assert!(budget.0.accounts.lock().is_empty());
}

#[test]
fn a_client_is_charged_for_an_answer_that_nobody_else_is_given() {
    let budget = budget(1 << 20);
    let (user, _) = account(&budget, 1, Class::User);
    let (monitor, _) = account(&budget, 2, Class::Monitor);
    let answer = crate::wire::raw(&"x".repeat(SHARED_FROM));
    let give = |account: &Account| account.share_answer(&answer, || answer.clone().into());
    assert!(give(&user).is_none() && budget.held().shared == 0);
    let first = give(&monitor).expect("a fleet asks for the same");
    assert!(Arc::ptr_eq(&first, &give(&user).expect("it is there")));
    assert!(give(&Account::free()).is_none());
    drop(first);
    assert_eq!(budget.held().shared, 0);
}

#[test]
fn a_class_has_its_share_and_whoever_holds_most_of_it_is_turned_away() {
    let budget = budget(8000);
    // Users have 2000.
    let (heavy, heavy_away) = account(&budget, 1, Class::User);
    let (light, light_away) = account(&budget, 2, Class::User);
    let (operator, _) = account(&budget, 1, Class::Operator);
    let held = heavy.charge(1500).unwrap();
    let also = light.charge(400).unwrap();
    assert_eq!(heavy.charge(200).map(drop), Err(Over::Share(Class::User, 2000)), "whoever holds most is refused");
    assert!(!heavy_away.load(Ordering::Relaxed) && heavy.held() == 1500);
    let more = light.charge(200).expect("in the place of whoever holds most");
    assert!(heavy_away.load(Ordering::Relaxed) && !light_away.load(Ordering::Relaxed));
    assert_eq!(heavy.charge(1).map(drop), Err(Over::TurnedAway));
    assert_eq!(budget.held().total, 600, "what it holds counts no longer");
    drop(held);
    assert_eq!(budget.held().total, 600);
    let all = operator.charge(7000).expect("level 1 may use what others do not");
    assert_eq!(operator.charge(1000).map(drop), Err(Over::Total(8000)));
    drop((also, more, all));
    assert_eq!(budget.held().total, 0);
}

#[test]
fn of_the_address_that_holds_most_the_heaviest_connection_goes() {
    let budget = budget(8000);
    // Monitors have 4000. Those of address 1 hold more together than the heaviest one, which is alone at address 2.
    let (small, small_away) = account(&budget, 1, Class::Monitor);
    let (large, large_away) = account(&budget, 1, Class::Monitor);
    let (alone, alone_away) = account(&budget, 2, Class::Monitor);
    let (late, _) = account(&budget, 3, Class::Monitor);
    let held = [small.charge(900).unwrap(), large.charge(1300).unwrap(), alone.charge(1500).unwrap()];
    let last = late.charge(500).unwrap();
    let away = [small_away, large_away, alone_away].map(|away| away.load(Ordering::Relaxed));
    assert_eq!(away, [false, true, false]);
    drop((held, last));
    assert_eq!(budget.held().total, 0);
}

#[test]
fn a_connection_is_refused_or_not_read_from_beyond_its_own_limits() {
    let budget = budget(8 << 20);
    let (user, _) = account(&budget, 1, Class::User);
    let waker = noop_waker();
    let mut context = std::task::Context::from_waker(&waker);
    let large = user.begin_call(120 << 10).expect("one message is always let in");
    assert_eq!(user.begin_call(1).map(drop), Err(Over::Messages(100 << 10)));
    assert!(user.poll_ready(&mut context).is_pending());
    drop(large);
    assert!(user.poll_ready(&mut context).is_ready());
    let calls = [user.begin_call(1).unwrap(), user.begin_call(1).unwrap()];
    assert_eq!(user.begin_call(1).map(drop), Err(Over::Calls(2)));
    let notify = user.begin_notify(1).expect("what was received already is still taken");
    assert!(user.poll_ready(&mut context).is_pending());
    drop(calls);
    assert!(user.poll_ready(&mut context).is_ready());
    drop(notify);
    assert_eq!(user.charge(500 << 10).map(drop), Err(Over::Connection(400 << 10)));
    assert!(Account::free().begin_call(usize::MAX / 2).is_ok(), "a free account refuses nothing");
}
