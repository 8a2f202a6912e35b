//! What modules may hold, by itself and together.

use super::*;

const MIB: usize = 1 << 20;

/// So many idle instances, each with a charge.
struct Warm(Mutex<Vec<InstanceCharge>>);

impl Idle for Warm {
    fn give_up(&self) -> bool {
        self.0.lock().pop().is_some()
    }
}

#[test]
fn a_module_has_a_sum_of_its_own_and_all_have_one_together() {
    let budget = ModulesBudget::new(10 * MIB);
    let [one, two] = ["one", "two"].map(|name| budget.open(name, Some(6 * MIB)));
    let first = one.charge(6 * MIB).unwrap();
    assert_eq!(one.charge(1).unwrap_err(), ModuleOver::Module("one".into(), 6 * MIB));
    let second = two.charge(4 * MIB).unwrap();
    // Nothing can be given up for it.
    assert_eq!(two.charge(1).unwrap_err(), ModuleOver::All("two".into(), 10 * MIB));
    assert_eq!((one.held(), two.held(), budget.held()), (6 * MIB, 4 * MIB, 10 * MIB));
    drop(first);
    two.charge(2 * MIB).unwrap();
    drop(second);
    assert_eq!((one.held(), two.held(), budget.held()), (0, 0, 0));
}

#[test]
fn what_the_host_carries_is_counted_and_never_refused() {
    let budget = ModulesBudget::new(MIB);
    let (other, carried) = (budget.open("console", Some(MIB)), budget.open("console", None));
    let _taken = other.charge(MIB).unwrap();
    let charge = carried.charge(100 * MIB).unwrap();
    assert_eq!((carried.held(), budget.held()), (100 * MIB, MIB));
    drop(charge);
    assert_eq!(carried.held(), 0);
}

#[test]
fn versions_share_an_account_and_the_newest_limit_counts() {
    let budget = ModulesBudget::new(10 * MIB);
    let before = budget.open("one", Some(MIB));
    let _held = before.charge(MIB).unwrap();
    let after = budget.open("one", Some(2 * MIB));
    assert!(after.is(&before));
    after.charge(MIB).unwrap();
}

#[test]
fn idle_instances_go_first() {
    let budget = ModulesBudget::new(10 * MIB);
    let [one, two] = ["one", "two"].map(|name| budget.open(name, Some(8 * MIB)));
    let warm = Arc::new(Warm(Mutex::new((0..4).map(|_| one.instance(2 * MIB).unwrap()).collect())));
    let idle: Arc<dyn Idle> = warm.clone();
    one.keeps_idle(Arc::downgrade(&idle));
    // Its own sum: one of its instances goes.
    let _mine = one.charge(MIB).unwrap();
    assert_eq!(warm.0.lock().len(), 3);
    // The sum of all: no more of them than needed.
    let _others = two.charge(6 * MIB).unwrap();
    assert_eq!((warm.0.lock().len(), budget.held()), (1, 9 * MIB));
}

#[tokio::test]
async fn whoever_holds_most_gives_up_its_largest_call() {
    let budget = ModulesBudget::new(10 * MIB);
    let [heavy, light] = ["heavy", "light"].map(|name| budget.open(name, Some(10 * MIB)));
    let (large, small) = (heavy.instance(5 * MIB).unwrap(), heavy.instance(4 * MIB).unwrap());
    let (call, other) = (large.serves(Class::Operator), small.serves(Class::User));
    let _light = light.charge(3 * MIB).unwrap();
    assert_eq!(call.given_up().await, ModuleOver::GivenUp("heavy".into()));
    assert!(!other.0.given_up.is_cancelled());
    assert_eq!((heavy.held(), light.held()), (4 * MIB, 3 * MIB));
    // It is about to end, and gets nothing more.
    assert_eq!(large.grow(1).unwrap_err(), ModuleOver::GivenUp("heavy".into()));
    drop((call, large));
    assert_eq!(heavy.held(), 4 * MIB);
    // The one that would hold most itself is refused.
    assert_eq!(light.charge(4 * MIB).unwrap_err(), ModuleOver::All("light".into(), 10 * MIB));
}

#[tokio::test]
async fn where_a_module_has_used_up_its_sum_users_give_way_to_level_1() {
    let budget = ModulesBudget::new(100 * MIB);
    let one = budget.open("one", Some(10 * MIB));
    let [large, small, operators] = [4 * MIB, 3 * MIB, 2 * MIB].map(|bytes| one.instance(bytes).unwrap());
    let (large_call, small_call) = (large.serves(Class::User), small.serves(Class::Monitor));
    let operators_call = operators.serves(Class::Operator);
    // A user's own call is refused, and nobody gives way to it.
    assert_eq!(small.grow(2 * MIB).unwrap_err(), ModuleOver::Module("one".into(), 10 * MIB));
    operators.grow(2 * MIB).unwrap();
    assert_eq!(large_call.given_up().await, ModuleOver::GaveWay("one".into(), 10 * MIB));
    assert!(!small_call.0.given_up.is_cancelled());
    // Before a call of level 1's has an instance.
    assert!(!one.end_call_for(Class::User, 1));
    assert!(!one.end_call_for(Class::Host, 7 * MIB), "none is ended where that would not be enough");
    assert!(one.end_call_for(Class::Host, 6 * MIB) && small_call.0.given_up.is_cancelled());
    assert!(!one.end_call_for(Class::Host, 1), "level 1 does not give way to the host");
    drop((operators_call, operators));
    assert_eq!(one.held(), 0);
}
