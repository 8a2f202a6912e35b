//! How much may stand in the server table, because every other server is told of all of it.
//!
//! Whoever has the token of any server type can register under any number of ids. A server that the configuration names, or that was added, is therefore told
//! apart from one that has only *joined*: the joined ones are bounded in number, may say less of themselves, and leave room for those that are named.

use std::sync::Arc;

use super::member::JoinError;
use super::{Member, MemberTable};

/// Says whether the configuration names a server, or it was added.
pub type IsNamed = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// How much may stand in the server table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableBounds {
    /// What a server may say of itself, bytes. One that has joined without being named may say a quarter of it. Default 8 KiB.
    pub info: usize,
    /// Servers that have joined without being named. Default 1024.
    pub joined: usize,
    /// What all servers say of themselves together, bytes; two thirds of it for those that have joined. Default 3 MiB.
    pub bytes: usize,
}

impl TableBounds {
    /// So many servers, named and joined together, fit under the default bounds, and under the limits that the built-in modules want.
    pub const SERVERS: usize = 2048;

    /// The bounds of a table for `named` servers, and `joined` others.
    pub fn new(info: usize, named: usize, joined: usize) -> Self {
        let times = named.saturating_add(joined).div_ceil(Self::SERVERS).max(1);
        TableBounds { info, joined, bytes: times.saturating_mul(3 << 20) }
    }
}

impl Default for TableBounds {
    fn default() -> Self {
        TableBounds::new(8 << 10, 0, 1024)
    }
}

/// What stands in the table now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fill {
    /// What all monitors say of their servers, bytes.
    bytes: usize,
    /// Ids that are not named.
    joined: usize,
    /// What those say, bytes.
    joined_bytes: usize,
}

impl Fill {
    /// What the monitors of one id add to the table.
    pub fn of(members: &[Member]) -> Self {
        let bytes = members.iter().map(Member::size).sum();
        match members.first() {
            Some(first) if !first.named => Fill { bytes, joined: 1, joined_bytes: bytes },
            _ => Fill { bytes, ..Fill::default() },
        }
    }

    /// The fill after the monitors of an id have changed.
    pub fn change(&mut self, before: Fill, after: Fill) {
        self.bytes = (self.bytes + after.bytes).saturating_sub(before.bytes);
        self.joined = (self.joined + after.joined).saturating_sub(before.joined);
        self.joined_bytes = (self.joined_bytes + after.joined_bytes).saturating_sub(before.joined_bytes);
    }
}

impl MemberTable {
    /// Whether there is room for a monitor in the place of those of its id that it would replace, or beside them.
    pub(super) fn has_room(&self, bounds: TableBounds, new: &Member) -> Result<(), JoinError> {
        let (size, named) = (new.size(), new.named);
        let limit = if named { bounds.info } else { bounds.info / 4 };
        if size > limit {
            return Err(JoinError::Info { bytes: size, limit, named });
        }
        let before = self
            .servers
            .get(&new.id)
            .map_or(0, |members| members.iter().find(|other| other.address() == new.address()).map_or(0, Member::size));
        let is_new = !self.servers.contains_key(&new.id);
        if !named && is_new && self.fill.joined >= bounds.joined {
            return Err(JoinError::Joined(bounds.joined));
        }
        let share = if named { bounds.bytes } else { bounds.bytes / 3 * 2 };
        let filled = if named { self.fill.bytes } else { self.fill.joined_bytes };
        if filled + size > share + before {
            return Err(JoinError::Full { bytes: filled, limit: share });
        }
        Ok(())
    }

    /// The server that has joined, is lost and was not heard of for the longest time: it gives way to one that comes.
    pub(super) fn longest_lost(&self) -> Option<String> {
        let lost = self.servers.iter().filter(|(_, members)| members.iter().all(|member| member.lost && !member.named));
        lost.min_by_key(|(_, members)| members.first().map(|member| member.since)).map(|(id, _)| id.clone())
    }
}
