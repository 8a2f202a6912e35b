//! Which traps of a new version show that the version is faulty, so that the one before it comes back.
//!
//! Whoever chooses a message can make a handler trap that works for everybody else. So one user or one monitor must not be able to take back what the operator
//! has put in force. Those whom the operator trusts show it with one trap.

use parking_lot::Mutex;
use tokio::sync::watch;

use super::caller::Caller;
use crate::budget::Class;

/// What traps have shown of a version.
#[derive(Debug)]
pub(super) struct Evidence {
    enough: watch::Sender<bool>,
    /// The first caller of an untrusted class whose call trapped.
    first: Mutex<Option<(Class, Option<String>)>>,
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence { enough: watch::Sender::new(false), first: Mutex::default() }
    }
}

impl Evidence {
    /// A call of this caller's trapped.
    pub fn trapped(&self, caller: &Caller) {
        if *self.enough.borrow() {
            return;
        }
        let (class, name) = (caller.class(), caller.name());
        let mut first = self.first.lock();
        let is_another = first.as_ref().is_some_and(|(of, known)| (*of, known.as_deref()) != (class, name));
        if class.is_trusted() || is_another {
            self.enough.send_replace(true);
        } else {
            *first = Some((class, name.map(str::to_owned)));
        }
    }

    /// Waits until it is shown that the version is faulty.
    pub async fn enough(&self) {
        // The sender is part of this value.
        let _ = self.enough.subscribe().wait_for(|enough| *enough).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::CallerRole;

    #[test]
    fn one_untrusted_caller_shows_nothing_however_often_it_traps() {
        let user = |name: &str, level| Caller {
            user: Some(name.into()),
            level: Some(level),
            ..Caller::of(CallerRole::Client)
        };
        let monitor = |id: &str| Caller { id: Some(id.into()), ..Caller::of(CallerRole::Monitor) };
        let cases = [
            (vec![user("eve", 2), user("eve", 2)], false),
            (vec![monitor("a"), monitor("a")], false),
            (vec![user("eve", 2), user("bob", 2)], true),
            (vec![monitor("a"), user("a", 2)], true),
            (vec![user("admin", 1)], true),
            (vec![Caller::of(CallerRole::Timer)], true),
            (vec![Caller { id: Some("m".into()), ..Caller::of(CallerRole::Master) }], true),
        ];
        for (callers, expected) in cases {
            let evidence = Evidence::default();
            callers.iter().for_each(|caller| evidence.trapped(caller));
            assert_eq!(*evidence.enough.borrow(), expected, "{callers:?}");
        }
    }
}
