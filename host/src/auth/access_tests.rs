use super::*;
use crate::auth::{StoredPassword, User, hash_password};

#[tokio::test]
async fn logins_beyond_the_bound_are_refused_at_once_and_memory_is_used_again() {
    let password = StoredPassword::parse(&hash_password("s3cret").unwrap()).unwrap();
    let users = Users::new(vec![User { username: "ann".into(), password, level: Level(2) }]);
    let bounds = LoginBounds { all: 100, per_address: 20, ..LoginBounds::default() };
    let access = Access::new(users, Tokens::new(None)).bounded(bounds);
    let (here, stays) = (Some([127, 0, 0, 1].into()), CancellationToken::new());
    let login = |password: &str| access.login("cli", "ann", password.into(), false, here, &stays);
    let outcomes = futures_util::future::join_all((0..30).map(|_| login("s3cret"))).await;
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    assert_eq!(count(Err(AccessRefused::BusyAddress)), 30 - 20 - running());
    assert_eq!(count(Ok(Level(2))), 20 + running());
    assert!(
        access.memories.lock().len() <= running(),
        "each is given back, and no more are made than are used at a time"
    );
    assert_eq!(login("wrong").await, Err(AccessRefused::Wrong));
    assert!(access.has_logged_in(here.unwrap(), "ann") && !access.has_logged_in(here.unwrap(), "bob"));

    let gone = CancellationToken::new();
    gone.cancel();
    let left = access.login("cli", "ann", "s3cret".into(), false, here, &gone).await;
    assert_eq!(left, Err(AccessRefused::Left));
}
