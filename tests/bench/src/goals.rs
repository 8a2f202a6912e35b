//! What is to be reached, by row.

/// A goal.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No more than so much of the original's.
    OfOriginal(f64),
    /// The same, of another row of the original: it does not speak Socket.IO.
    OfOriginals(f64, &'static str),
}

const GOALS: &[(&str, &str, Goal)] = &[
    ("cached request, pomelo's wire, 64 in flight", "CPU per request", Goal::OfOriginal(0.6)),
    ("cached request, pomelo's wire, 1 in flight", "CPU per request", Goal::OfOriginal(0.8)),
    (
        "cached request, Socket.IO, 64 in flight",
        "CPU per request",
        Goal::OfOriginals(1.0, "cached request, pomelo's wire, 64 in flight"),
    ),
    ("1,000 of pomelo's monitors", "all registered", Goal::AtMost(1.0)),
    ("1,000 of pomelo's monitors", "all know all", Goal::AtMost(3.0)),
    ("1,000 of pomelo's monitors", "memory, peak", Goal::AtMost(100.0)),
    ("1,000 of our monitors", "all know all", Goal::AtMost(1.5)),
    ("1,000 of our monitors", "master's CPU until then", Goal::AtMost(1.0)),
    ("1,000 of our monitors", "memory, peak", Goal::AtMost(100.0)),
    ("1,000 of our monitors", "failed, late or lost", Goal::AtMost(0.0)),
    ("1,000 of our monitors", "`list`, p50", Goal::AtMost(20.0)),
    ("1,000 of our monitors", "memory per monitor when quiet", Goal::AtMost(40.0)),
    ("1,000 of our monitors on pomelo's wire", "memory per monitor when quiet", Goal::AtMost(25.0)),
    ("5,000 of our monitors", "failed, late or lost", Goal::AtMost(0.0)),
    ("10,000 of our monitors", "failed, late or lost", Goal::AtMost(0.0)),
    ("1,000 monitors that take modules", "file closed to all have fetched it", Goal::AtMost(5.0)),
    ("the same on pomelo's wire", "file closed to all have fetched it", Goal::AtMost(5.0)),
    ("60 logins", "memory after", Goal::AtMost(60.0)),
    ("reload of 115 kB, 64 in flight", "failed", Goal::AtMost(0.0)),
    ("reload of 115 kB, 64 in flight", "longest time without any answer", Goal::AtMost(20.0)),
    ("reload of 115 kB, 64 in flight", "slowest request", Goal::AtMost(30.0)),
    ("start, warm", "from start to listening", Goal::AtMost(40.0)),
    ("start with a module, warm", "from start to listening", Goal::AtMost(40.0)),
];

/// The goal of a row, if it has one.
pub fn goal(case: &str, figure: &str) -> Option<Goal> {
    GOALS.iter().find(|(of, what, _)| *of == case && *what == figure).map(|(_, _, goal)| *goal)
}
