use super::polling::NoPolling;
use super::*;

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn places(connections: usize, strangers: usize, per_address: usize) -> Arc<Places> {
    let max_connections = connections;
    Places::new(&Options { max_connections, strangers, strangers_per_address: per_address, ..Options::default() })
}

const LONG: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_one_that_is_furthest_behind_gives_way() {
    let (places, now) = (places(100, 50, 6), Instant::now());
    let entered: Vec<_> = Stage::ALL
        .iter()
        .map(|stage| {
            let place = places.enter(address(1), now).unwrap();
            place.reach(*stage);
            place
        })
        .collect();
    let cut = || entered.iter().map(|place| place.cut().is_cancelled()).collect::<Vec<_>>();
    assert_eq!(cut(), [false; 6]);
    // Who came a long time ago goes first, whoever comes now is spared, and who is being checked goes last.
    let later = Instant::now() + LONG;
    let comers: Vec<_> = (0..5).map(|_| places.enter(address(1), later).unwrap()).collect();
    assert_eq!(cut(), [true, true, true, true, true, false]);
    assert!(comers.iter().all(|place| !place.cut().is_cancelled()));
    // All are young: the oldest that is furthest behind goes.
    places.enter(address(1), later).unwrap();
    assert!(comers[0].cut().is_cancelled() && !entered[5].cut().is_cancelled());
    // Others are not displaced by this address.
    let other = places.enter(address(2), now).unwrap();
    places.enter(address(1), later + LONG).unwrap();
    assert!(!other.cut().is_cancelled());
}

#[tokio::test]
async fn where_all_are_being_checked_the_oldest_gives_way() {
    let (places, now) = (places(100, 50, 2), Instant::now());
    let [first, second] = [(); 2].map(|()| {
        let place = places.enter(address(1), now).unwrap();
        place.stands(Standing::Checking);
        place
    });
    places.enter(address(1), now).unwrap();
    assert!(first.cut().is_cancelled() && !second.cut().is_cancelled());
}

#[tokio::test]
async fn when_there_are_too_many_in_all_the_address_with_most_gives_way() {
    let (places, now) = (places(100, 20, 20), Instant::now());
    let others: Vec<_> = (2..8).map(|last| places.enter(address(last), now).unwrap()).collect();
    let flood: Vec<_> = (0..14).map(|_| places.enter(address(1), now).unwrap()).collect();
    let comer = places.enter(address(9), now + LONG).unwrap();
    assert!(flood[0].cut().is_cancelled());
    assert!(others.iter().chain([&comer]).all(|place| !place.cut().is_cancelled()));
}

#[tokio::test]
async fn registered_ones_are_never_displaced_and_keep_others_out_only_at_the_bound() {
    let (places, now) = (places(3, 3, 3), Instant::now());
    let enter = || places.enter(address(1), now);
    let registered: Vec<_> = (0..2)
        .map(|_| {
            let place = enter().unwrap();
            place.stands(Standing::Registered);
            place
        })
        .collect();
    let stranger = enter().unwrap();
    let comer = enter().unwrap();
    assert!(stranger.cut().is_cancelled());
    // The last place is kept for whoever is preferred, and for strangers who may become such.
    assert!(!comer.stands(Standing::Registered));
    assert!(comer.stands(Standing::Preferred));
    assert_eq!(
        (places.table.lock().registered(), registered.len()),
        (2, 2),
        "whoever is preferred takes no place of theirs"
    );
    assert_eq!(enter().err(), Some(NoPlace::All));
    assert!(registered.iter().chain([&comer]).all(|place| !place.cut().is_cancelled()));
    comer.leave();
    let last = enter().unwrap();
    drop((registered, stranger, comer, last));
    assert!(places.table.lock().is_empty());
    assert_eq!(places.sockets.available_permits(), 3 + LEAVING);
}

#[tokio::test]
async fn an_address_may_be_given_a_bound_of_its_own() {
    let options = Options { connections_per_address: 1, ..Options::default() };
    let (places, now) = (Places::new(&options), Instant::now());
    let place = places.enter(address(1), now).unwrap();
    place.stands(Standing::Registered);
    assert_eq!(places.enter(address(1), now).err(), Some(NoPlace::Address));
    assert!(places.enter(address(2), now).is_ok());
}

#[tokio::test]
async fn who_holds_most_is_closed_when_all_hold_too_much() {
    let places = Places::new(&Options { strangers_held: 100, ..Options::default() });
    let now = Instant::now();
    let [small, large, registered] = [(); 3].map(|()| places.enter(address(1), now).unwrap());
    registered.stands(Standing::Registered);
    registered.holds(1000);
    small.holds(30);
    large.holds(60);
    assert!(!large.cut().is_cancelled());
    small.holds(50);
    assert!(large.cut().is_cancelled() && !small.cut().is_cancelled());
    drop((small, large, registered));
    assert_eq!(places.held.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_comes_while_another_is_being_closed_is_not_closed_for_it() {
    let places = Places::new(&Options { strangers_held: 100, ..Options::default() });
    let now = Instant::now();
    let [one, two, three] = [(); 3].map(|()| places.enter(address(1), now).unwrap());
    for bytes in [20, 40] {
        [&one, &two, &three].iter().for_each(|place| place.holds(bytes));
    }
    let cut = |place: &Arc<Place>| place.cut().is_cancelled();
    let closed = || [&one, &two, &three].into_iter().filter(|place| cut(place)).count();
    assert_eq!(closed(), 1);
    // Its socket is still there, and more comes of it. The others are within what all may hold.
    let comer = places.enter(address(2), now).unwrap();
    comer.holds(10);
    [&one, &two, &three].iter().filter(|place| cut(place)).for_each(|place| place.holds(60));
    comer.holds(20);
    assert!(!cut(&comer) && closed() == 1);
    drop((one, two, three, comer));
    assert_eq!(places.held.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_stage_that_takes_too_long_ends_and_a_new_request_begins_anew() {
    let (places, now) = (places(10, 5, 5), Instant::now());
    let [late, busy] = [(); 2].map(|()| places.enter(address(1), now).unwrap());
    late.reach(Stage::Request);
    std::thread::sleep(Duration::from_millis(2));
    let between = Instant::now();
    busy.reach(Stage::Request);
    places.end_late(Stage::Request, Duration::ZERO, between);
    assert!(late.cut().is_cancelled() && !busy.cut().is_cancelled());
}

#[tokio::test]
async fn polling_sessions_are_counted_by_address_and_in_all() {
    let places = Places::new(&Options { polling_sessions: 3, polling_per_address: 2, ..Options::default() });
    let held: Vec<_> = (0..2).map(|_| places.polling(address(1)).unwrap()).collect();
    assert_eq!(places.polling(address(1)).err(), Some(NoPolling::Address));
    let other = places.polling(address(2)).unwrap();
    assert_eq!(places.polling(address(3)).err(), Some(NoPolling::All));
    drop(held);
    assert!(places.polling(address(3)).is_ok());
    drop(other);
    assert!(places.table.lock().is_empty());
}
