//! The state machine of one server: what it is, and what everything that can happen makes of that.
//!
//! [`next`] is the whole machine, and a pure function. `docs/fleet.md` has its table, and a test compares the two.

use serde::{Deserialize, Serialize};

/// What is wanted of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It is to run.
    Up,
    /// It is to stay down, until somebody starts it.
    Down,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is to be started by this master, and was not begun yet.
    Pending,
    /// A process was begun for it. It is not ready yet.
    Starting,
    /// It is in the server table: others route to it.
    Running,
    /// Its monitor is there, but others are told that the server is not.
    Unready,
    /// It has left the views, and ends when its connections have.
    Draining,
    /// It was asked to end.
    Stopping,
    /// It does not run. Somebody wanted that.
    Stopped,
    /// It has ended by itself, and is started again after a while.
    BackingOff,
    /// It has ended, or could not be started, and nobody starts it again by himself.
    Failed,
    /// The connection to it is lost. It may run.
    Lost,
    /// Somebody else is to start it. It was not seen yet.
    Elsewhere,
}

/// Who can start a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// This master, on its own machine or through `ssh`. It learns how the process ends.
    Ours,
    /// Somebody else. Only its connection tells how it is.
    Theirs,
}

/// How a process that this master had begun has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// It is begun again after a while.
    Again,
    /// In order. It is not begun again.
    Clean,
    /// For good, because of a failure.
    Final,
}

/// Everything that can happen to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// It is now wanted up.
    Up,
    /// It is now wanted down.
    Down,
    /// This master has begun a process for it.
    Launched,
    /// This master could not begin one.
    NotLaunched,
    /// The process that this master had begun has ended.
    Exited(End),
    /// It is in the server table.
    Joined,
    /// It has left the table. Its monitor is still connected.
    Absent,
    /// Its connection has ended in order.
    Left,
    /// Its connection is lost.
    Lost,
    /// Its monitor says that its program is being started.
    SaysStarting,
    /// Its monitor says that its program runs, but is not to be routed to.
    SaysUnready,
    /// It begins to drain, or its monitor says that it does.
    SaysDraining,
    /// Its monitor says that its program has ended and will be started again.
    SaysBackingOff,
    /// Its monitor says that its program has ended for good.
    SaysFailed,
    /// A job begins to end it.
    Ending,
    /// It did not end, or its drain was taken back, and it is in the table.
    StillRuns,
    /// It did not end, or its drain was taken back, and it is not in the table.
    StillThere,
    /// It has ended, as a job has found out.
    Gone,
    /// Another process of the master begins.
    NewMaster,
}

impl State {
    /// All of them.
    pub const ALL: [State; 11] = [
        State::Pending,
        State::Starting,
        State::Running,
        State::Unready,
        State::Draining,
        State::Stopping,
        State::Stopped,
        State::BackingOff,
        State::Failed,
        State::Lost,
        State::Elsewhere,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Starting => "starting",
            State::Running => "running",
            State::Unready => "unready",
            State::Draining => "draining",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::BackingOff => "backing-off",
            State::Failed => "failed",
            State::Lost => "lost",
            State::Elsewhere => "elsewhere",
        }
    }

    /// Whether no process of it runs, as far as is known.
    pub fn is_down(self) -> bool {
        matches!(self, State::Pending | State::Stopped | State::Failed | State::Elsewhere)
    }
}

impl Wanted {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Up => "up",
            Wanted::Down => "down",
        }
    }
}

impl Input {
    /// All of them.
    pub const ALL: [Input; 21] = [
        Input::Up,
        Input::Down,
        Input::Launched,
        Input::NotLaunched,
        Input::Exited(End::Again),
        Input::Exited(End::Clean),
        Input::Exited(End::Final),
        Input::Joined,
        Input::Absent,
        Input::Left,
        Input::Lost,
        Input::SaysStarting,
        Input::SaysUnready,
        Input::SaysDraining,
        Input::SaysBackingOff,
        Input::SaysFailed,
        Input::Ending,
        Input::StillRuns,
        Input::StillThere,
        Input::Gone,
        Input::NewMaster,
    ];
}

/// The state after an input. `wanted` is what is wanted once the input has been taken in.
pub fn next(state: State, wanted: Wanted, place: Place, input: Input) -> State {
    use State::{
        BackingOff, Draining, Elsewhere, Failed, Lost, Pending, Running, Starting, Stopped, Stopping, Unready,
    };
    let ours = place == Place::Ours;
    let down = wanted == Wanted::Down;
    // What a server is that does not run and was not ended on purpose.
    let failed = if down { Stopped } else { Failed };
    match (input, state) {
        (Input::Up, Stopped | Failed) if ours => Pending,
        (Input::Up, Stopped | Failed) => Elsewhere,
        (Input::Down, Pending | Failed | Elsewhere) => Stopped,
        (Input::Up | Input::Down, _) => state,

        // Who joins may do so before the one who began it is told that it has begun.
        (Input::Launched, Running | Unready | Draining | Stopping) => state,
        (Input::Launched, _) => Starting,
        // Nothing was begun, so that what runs already goes on.
        (Input::NotLaunched, Running | Unready | Draining | BackingOff | Lost) => state,
        (Input::NotLaunched, _) => failed,

        // The job that ends it makes sure that it is not begun again.
        (Input::Exited(End::Again), Stopping) => Stopping,
        (Input::Exited(End::Again), _) => BackingOff,
        (Input::Exited(End::Clean), _) | (Input::Exited(End::Final), Stopping) => Stopped,
        (Input::Exited(End::Final), _) => failed,

        (Input::Joined, Stopping) => Stopping,
        (Input::Joined, _) => Running,
        (Input::Absent, Running) => Unready,
        (Input::Absent, _) => state,
        // The end of a process of ours is told by the process. The connection of an earlier one may end later than the next one begins.
        (Input::Left, Running) if ours => Unready,
        (Input::Left, _) if ours => state,
        (Input::Left, Pending | Elsewhere | Failed) => state,
        (Input::Left, _) => Stopped,
        (Input::Lost, Running | Unready | Draining) => Lost,
        (Input::Lost, Starting | BackingOff) if !ours => Lost,
        // If it still runs it will be back, and is then asked once more.
        (Input::Lost, Stopping) if !ours => Stopped,
        (Input::Lost, _) => state,

        // A monitor that says something is there, whatever was known of it. But a server that is being ended counts as that until it has ended.
        (
            Input::SaysStarting | Input::SaysUnready | Input::SaysDraining | Input::SaysBackingOff | Input::SaysFailed,
            Stopping,
        ) => Stopping,
        (Input::SaysStarting, _) => Starting,
        (Input::SaysUnready, _) => Unready,
        (Input::SaysDraining, _) => Draining,
        (Input::SaysBackingOff, _) => BackingOff,
        (Input::SaysFailed, _) => failed,

        (Input::Ending, Stopped | Failed | Elsewhere | Pending) => state,
        (Input::Ending, _) => Stopping,
        (Input::StillRuns, Stopping | Draining) => Running,
        (Input::StillThere, Stopping | Draining) => Unready,
        (Input::StillRuns | Input::StillThere, _) => state,
        // It was ended, and has come once more before that was told.
        (Input::Gone, Starting | Running | Unready | Draining) => state,
        (Input::Gone, _) => Stopped,

        // The processes of an earlier master end with it.
        (Input::NewMaster, _) if ours => {
            if down {
                Stopped
            } else {
                Pending
            }
        }
        (Input::NewMaster, Stopped) if down => Stopped,
        (Input::NewMaster, Stopped | Failed | Elsewhere | Pending) => {
            if down {
                Stopped
            } else {
                Elsewhere
            }
        }
        // It may run on, and comes back then.
        (Input::NewMaster, _) => Lost,
    }
}

/// What is to be done about a server that no job owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// It is to be started.
    Start,
    /// It is to be ended: it runs although it is wanted down.
    End,
}

/// What is due for a server in a state.
pub fn due(state: State, wanted: Wanted) -> Option<Due> {
    match (wanted, state) {
        (Wanted::Up, State::Pending) => Some(Due::Start),
        (
            Wanted::Down,
            State::Starting | State::Running | State::Unready | State::Draining | State::BackingOff | State::Stopping,
        ) => Some(Due::End),
        _ => None,
    }
}
