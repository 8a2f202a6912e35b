//! Attacks on a real master: by strangers, by users of a low level, by monitors that hold a token, and by slow peers.
//!
//! Each test is a short form of an attack program, with a fixed amount of work. It looks at what the attack must not do: take the master's memory, keep
//! level 1 from stopping a server, or displace others. `docs/security.md` has the table of all of them.

mod faults;
mod monitors;
mod peers;
mod strangers;
#[path = "../../support/processes/mod.rs"]
mod support;
#[path = "../../support/target.rs"]
mod target;
mod users;
mod words;

use target::Target;

/// Without an attack, all that is looked at in an attack holds.
#[test]
fn a_master_in_peace() {
    let target = Target::start("");
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    target.held();
}
