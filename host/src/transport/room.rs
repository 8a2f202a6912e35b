//! Room in a peer's outbox for what modules send.
//!
//! A module that sends faster than its peer takes waits for room of its own. All modules together have half of the outbox, so that their frames neither fill
//! it for others nor are a reason to cut the peer. What they hold there is charged to the module, and not to the peer.
//!
//! The modules that the host carries need no room: they send what the peer must have, and a peer that does not keep up with that is cut.

use std::time::Instant;

use crate::budget::{ModuleAccount, ModuleCharge, ModuleOver};
use crate::util::{Share, Shares};

/// Bytes that one module may have in the outbox of a peer. A frame that is larger goes alone.
pub const OF_A_MODULE: usize = 2 << 20;
/// How many modules can have as much at the same time.
const MODULES: usize = 4;
/// The part of an outbox, by frames, that one module may have.
const PART: usize = 8;

/// The room in one outbox.
#[derive(Debug)]
pub(super) struct Rooms {
    shares: Shares,
    /// What a frame takes at least, so that many small ones do not fill the outbox.
    least: usize,
}

/// Room for one frame of a module. It is given back when the frame has been sent.
#[derive(Debug)]
pub struct Room {
    _share: Share,
    _charge: ModuleCharge,
}

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The peer has not taken in time what the module has sent before.
    #[error("what module {name} has sent before waits for the peer still, and it may have {mib} MiB or an eighth of `outbox` ([network] of pomelo.toml) there",
        name = .0, mib = OF_A_MODULE >> 20)]
    Late(String),
    /// The module holds too much.
    #[error(transparent)]
    Memory(#[from] ModuleOver),
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
}

impl Rooms {
    /// The room in an outbox for so many frames.
    pub fn new(capacity: usize) -> Self {
        let each = (capacity / PART).max(1);
        Rooms { shares: Shares::new(OF_A_MODULE * MODULES, OF_A_MODULE), least: OF_A_MODULE / each }
    }

    /// Waits for room for a frame, until the deadline.
    pub async fn take(&self, of: &ModuleAccount, bytes: usize, deadline: Instant) -> Result<Room, NoRoom> {
        let wanted = self.shares.take(of.name(), bytes.max(self.least));
        let late = |_| NoRoom::Late(of.name().to_owned());
        let share = tokio::time::timeout_at(deadline.into(), wanted).await.map_err(late)?;
        Ok(Room { _share: share, _charge: of.charge(bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::ModulesBudget;

    #[tokio::test(start_paused = true)]
    async fn a_module_has_an_eighth_of_an_outbox_and_all_have_half_of_it() {
        let (rooms, budget) = (Rooms::new(64), ModulesBudget::new(usize::MAX));
        let soon = || Instant::now() + Duration::from_millis(10);
        let mut taken = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let account = budget.open(name, Some(usize::MAX));
            while let Ok(room) = rooms.take(&account, 10, soon()).await {
                taken.push(room);
            }
            let expected = if name == "e" { 0 } else { 8 };
            assert_eq!(account.held(), expected * 10, "{name}");
            assert_eq!(rooms.take(&account, 10, soon()).await.unwrap_err(), NoRoom::Late(name.into()));
        }
        assert_eq!(taken.len(), 32);
        drop(taken);
        // What is larger than all that a module may have goes alone.
        let account = budget.open("a", Some(usize::MAX));
        let _large = rooms.take(&account, 100 << 20, soon()).await.unwrap();
        assert!(rooms.take(&account, 1, soon()).await.is_err());
    }
}
