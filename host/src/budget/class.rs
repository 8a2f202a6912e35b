//! The classes of peers, and their shares.

/// What a peer is, as far as it matters when there is not enough for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It has not registered.
    Stranger,
    /// A client whose user has a level above 1.
    User,
    /// A server's monitor.
    Monitor,
    /// A client whose user has level 1.
    Operator,
    /// The master, to a monitor.
    Master,
    /// This process itself: timers, server events, and the calls between the master and its own monitor.
    Host,
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 6] =
        [Class::Stranger, Class::User, Class::Monitor, Class::Operator, Class::Master, Class::Host];

    /// Its name, as in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Stranger => "stranger",
            Class::User => "user",
            Class::Monitor => "monitor",
            Class::Operator => "operator",
            Class::Master => "master",
            Class::Host => "host",
        }
    }

    /// Whether it gives way to level 1, the master and the host where there is not enough of something for all.
    pub const fn gives_way(self) -> bool {
        matches!(self, Class::Stranger | Class::User | Class::Monitor)
    }

    /// Its peers, as they stand in a sentence.
    pub const fn peers(self) -> &'static str {
        match self {
            Class::Stranger => "peers that have not registered",
            Class::User => "clients of level 2 and above",
            Class::Monitor => "monitors",
            Class::Operator => "clients of level 1",
            Class::Master => "the master",
            Class::Host => "the host itself",
        }
    }

    /// Its place in an array with one element a class.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its share of a whole. An eighth of the whole is in no share but that of level 1, which may use all.
    pub const fn share_of(self, whole: usize) -> usize {
        match self {
            Class::Stranger => whole / 8,
            Class::User => whole / 4,
            Class::Monitor => whole / 2,
            Class::Operator | Class::Master | Class::Host => whole,
        }
    }

    /// How much more than others it counts where callers take turns.
    pub const fn weight(self) -> usize {
        match self {
            Class::Stranger => 1,
            Class::User => 2,
            Class::Monitor => 4,
            Class::Operator | Class::Master | Class::Host => 8,
        }
    }

    /// Whether one peer of the class may speak for all of it.
    pub const fn is_trusted(self) -> bool {
        !matches!(self, Class::Stranger | Class::User | Class::Monitor)
    }

    /// Whether a part of what modules have is kept free for it.
    pub const fn has_reserve(self) -> bool {
        matches!(self, Class::Operator | Class::Master | Class::Host)
    }
}
