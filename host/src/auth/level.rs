//! What a user may do, as a number.

/// A user's level: 1 may do everything, higher numbers less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u32);

impl Level {
    /// The level that may do everything.
    pub const ADMIN: Level = Level(1);
}
