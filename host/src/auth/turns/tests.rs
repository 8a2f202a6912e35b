use std::task::Poll;

use futures_util::poll;

use super::*;

fn address(last: u8) -> Option<IpAddr> {
    Some([10, 0, 0, last].into())
}

fn bounds(all: usize, per_address: usize) -> LoginBounds {
    LoginBounds { all, per_address, time: Duration::from_secs(60), ..LoginBounds::default() }
}

/// Has names wait behind a turn, in the order given; who is served in which order.
async fn order(turns: &Turns, waiting: &[(u8, &'static str)]) -> Vec<(u8, &'static str)> {
    let first = turns.turn(address(200), "first").await.unwrap();
    let (served, mut in_order) = tokio::sync::mpsc::unbounded_channel();
    for (count, who) in waiting.iter().enumerate() {
        let (own, served, who) = (turns.clone(), served.clone(), *who);
        tokio::spawn(async move {
            let turn = own.turn(address(who.0), who.1).await.unwrap();
            served.send(who).unwrap();
            drop(turn);
        });
        while turns.waiting() <= count {
            tokio::task::yield_now().await;
        }
    }
    drop((first, served));
    let mut order = Vec::new();
    while let Some(who) = in_order.recv().await {
        order.push(who);
    }
    order
}

#[tokio::test]
async fn addresses_and_their_users_take_turns() {
    let turns = Turns::new(1, bounds(100, 100));
    let flood = [(1, "x"); 6];
    let served = order(&turns, &[&flood[..], &[(2, "ann"), (3, "bob")]].concat()).await;
    assert_eq!(served[..3], [(1, "x"), (2, "ann"), (3, "bob")]);
    assert_eq!(turns.waiting(), 0);
    assert_eq!(turns.0.state.lock().running, 0);
}

#[tokio::test]
async fn who_has_logged_in_before_passes_a_flood_of_names_of_the_same_address() {
    let turns = Turns::new(1, bounds(100, 100));
    turns.remember(address(1), "ann");
    turns.remember(address(1), "bob");
    assert!(turns.knows([10, 0, 0, 1].into(), "ann") && !turns.knows([10, 0, 0, 2].into(), "ann"));
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (1, name));
    let bobs = [(1, "bob"); 8];
    let served = order(&turns, &[&names[..], &bobs, &[(1, "ann")]].concat()).await;
    let place = served.iter().position(|who| who.1 == "ann").unwrap();
    assert!(place <= 2, "after one of bob's, and one of the others' at most: {served:?}");
    let others = served[..8].iter().filter(|who| who.1 != "bob" && who.1 != "ann").count();
    assert_eq!(others, 2, "others have a share: {served:?}");
}

#[tokio::test]
async fn who_waits_is_bounded_by_address_and_in_all_and_nothing_stays() {
    let turns = Turns::new(1, bounds(4, 2));
    turns.remember(address(1), "ann");
    let turn = turns.turn(address(1), "a").await.unwrap();
    let mut waiting: Vec<_> = ["a", "b"].map(|name| Box::pin(turns.turn(address(1), name))).into();
    for wait in &mut waiting {
        assert!(poll!(wait).is_pending());
    }
    assert_eq!(turns.turn(address(1), "c").await.err(), Some(AccessRefused::BusyAddress));
    // Who is known is counted apart.
    let mut known = Box::pin(turns.turn(address(1), "ann"));
    let mut other = Box::pin(turns.turn(address(2), "a"));
    assert!(poll!(&mut known).is_pending() && poll!(&mut other).is_pending());
    assert_eq!(turns.turn(address(3), "a").await.err(), Some(AccessRefused::Busy));
    // One that gives up makes room.
    drop(waiting.pop());
    assert!(poll!(Box::pin(turns.turn(address(3), "a"))).is_pending());
    drop(turn);
    let Poll::Ready(Ok(turn)) = poll!(&mut known) else { panic!("it is ann's turn") };
    // One whose turn has come, and who is gone without having taken it, gives it back.
    drop(turn);
    drop((known, other, waiting));
    assert_eq!(turns.waiting(), 0);
    assert_eq!(turns.0.state.lock().running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_waits_too_long_is_refused() {
    let turns = Turns::new(1, LoginBounds::default());
    let turn = turns.turn(address(1), "a").await.unwrap();
    assert_eq!(turns.turn(address(1), "b").await.err(), Some(AccessRefused::Late));
    drop(turn);
    assert!(turns.turn(address(1), "b").await.is_ok());
}

#[tokio::test]
async fn only_so_many_are_remembered() {
    let turns = Turns::new(1, LoginBounds::default());
    turns.remember(address(1), "ann");
    for number in 0..KNOWN {
        turns.remember(address(2), &format!("user-{number}"));
    }
    assert_eq!(turns.0.state.lock().known.len(), KNOWN);
    assert!(!turns.knows([10, 0, 0, 1].into(), "ann"));
}
