//! The functions of an application that only its host calls, and no module and no check: the changes of the view, the drain, and the end.

/// Servers have joined.
pub const ADD_SERVERS: &str = "addServers";
/// Servers have left.
pub const REMOVE_SERVERS: &str = "removeServers";
/// The whole view.
pub const REPLACE_SERVERS: &str = "replaceServers";
/// All configured servers have started.
pub const START_OVER: &str = "startOver";
/// The application drains.
pub const DRAIN: &str = "drain";
/// The drain is taken back.
pub const UNDRAIN: &str = "undrain";
/// The application is to end.
pub const STOP: &str = "stop";
/// The functions that change the view. They are run one after another.
pub const VIEW: [&str; 4] = [ADD_SERVERS, REMOVE_SERVERS, REPLACE_SERVERS, START_OVER];
/// All of them.
pub const ALL: [&str; 7] = [ADD_SERVERS, REMOVE_SERVERS, REPLACE_SERVERS, START_OVER, DRAIN, UNDRAIN, STOP];
