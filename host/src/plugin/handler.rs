//! The callbacks that a module may have.

/// A callback of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handler {
    /// On the master, for monitors and the `pull` timer.
    Master,
    /// On a monitor, for the master and the `push` timer.
    Monitor,
    /// On the master, for clients.
    Client,
    /// On the master, for changes of the server table.
    Events,
    /// Once per host and version.
    Start,
}

impl Handler {
    /// All callbacks.
    pub const ALL: [Handler; 5] = [Handler::Master, Handler::Monitor, Handler::Client, Handler::Events, Handler::Start];

    /// The callback's name, which is that of its interface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Handler::Master => "master-handler",
            Handler::Monitor => "monitor-handler",
            Handler::Client => "client-handler",
            Handler::Events => "server-events",
            Handler::Start => "lifecycle",
        }
    }

    pub(super) const fn export(self) -> &'static str {
        match self {
            Handler::Master => "pomelo:admin/master-handler@0.1.0",
            Handler::Monitor => "pomelo:admin/monitor-handler@0.1.0",
            Handler::Client => "pomelo:admin/client-handler@0.1.0",
            Handler::Events => "pomelo:admin/server-events@0.1.0",
            Handler::Start => "pomelo:admin/lifecycle@0.1.0",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
