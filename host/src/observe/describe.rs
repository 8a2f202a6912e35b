//! The HELP text of each metric.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Counts since the process began, by name.
const COUNTERS: &[(&str, &str)] = &[
    ("pomelo_handler_calls_total", "Calls of a module's handler that have ended."),
    (
        "pomelo_handler_failures_total",
        "Calls of a module's handler that failed, by code; `other` for a module's own codes.",
    ),
    (
        "pomelo_timer_turns_skipped_total",
        "Turns of a module's timer that were skipped because the one before still ran.",
    ),
    ("pomelo_calls_refused_total", "Calls that were refused because too many waited for the module."),
    ("pomelo_module_cpu_milliseconds_total", "CPU time that the calls of a module's file have used."),
    (
        "pomelo_module_memory_refused_total",
        "How often a module was refused memory, because it or all modules had used up what they may hold.",
    ),
    (
        "pomelo_module_calls_given_up_total",
        "Calls of a module that were ended because other modules needed what they held.",
    ),
    ("pomelo_modules_installed_total", "Versions of modules that have taken over."),
    (
        "pomelo_modules_compiled_total",
        "Files of modules that a process of this host has compiled; those that were read from the disk are not counted.",
    ),
    ("pomelo_modules_refused_total", "Files of modules that were refused."),
    (
        "pomelo_modules_taken_back_total",
        "Versions of modules that trapped soon after they took over and were replaced by the version before.",
    ),
    (
        "pomelo_modules_fallen_back_total",
        "Versions that were kept from before and are in force in place of a file that was refused at the start of its host.",
    ),
    ("pomelo_frames_total", "Frames of peers, by transport and direction."),
    ("pomelo_peers_cut_total", "Peers that this side disconnected, by reason."),
    ("pomelo_connections_refused_total", "Connections that were closed at once, by reason."),
    (
        "pomelo_strangers_closed_total",
        "Connections closed before their peers had registered, by reason and by how far they had come.",
    ),
    ("pomelo_connections_ended_total", "Connections that this side ended because of a limit, by reason."),
    ("pomelo_requests_refused_total", "HTTP requests that were refused, by reason."),
    ("pomelo_tls_handshakes_failed_total", "TLS handshakes of peers that failed, by reason."),
    ("pomelo_registrations_refused_total", "Registrations of monitors and clients that were refused."),
    ("pomelo_unknown_answers_total", "Answers that nobody waited for: their request had timed out, or there was none."),
    ("pomelo_client_pushes_dropped_total", "Messages to a client that were dropped because it did not keep up."),
    ("pomelo_events_total", "Events that happened, by kind."),
    ("pomelo_events_dropped_total", "Events that were not recorded because there were too many in a second."),
    (
        "pomelo_output_lines_dropped_total",
        "Lines that were dropped, because the disk did not take them (`file`) or nobody read them (`print`).",
    ),
    (
        "pomelo_log_lines_left_out_total",
        "Lines of the log that peers have caused and that were left out, because there were too many.",
    ),
    ("pomelo_admin_log_lost_total", "Records of the admin log that the disk could not take."),
    (
        "pomelo_admin_log_folded_total",
        "Records of the admin log that have no line of their own, because there were many like them.",
    ),
    ("pomelo_mass_losses_total", "How often a large part of the fleet vanished at once."),
    (
        "pomelo_health_failures_total",
        "Checks of a program's health that failed, by what was asked: `port`, `http`, `control`, `command` or `memory`.",
    ),
    (
        "pomelo_messages_too_large_total",
        "Messages above the limit of the module that they were for, by whose they were.",
    ),
    ("pomelo_joins_refused_total", "Servers that were not taken into the table, by the reason."),
    ("pomelo_tasks_panicked_total", "Tasks that ended by a fault of this program and were begun anew."),
    ("pomelo_program_restarts_total", "How often this process started a program again."),
    ("pomelo_starts_delayed_total", "Starts of programs that had to wait for their turn, because many were started."),
    ("pomelo_state_errors_total", "Writes of durable state that failed."),
];

/// Values at the time of the request, by name.
const GAUGES: &[(&str, &str)] = &[
    ("pomelo_module_memory_bytes", "Bytes that are held for a module in the whole process."),
    ("pomelo_guests_waiting", "Calls that wait for their turn to compute."),
    ("pomelo_module_calls", "Calls under way in a module's file, those that wait for a place among them."),
    ("pomelo_module_calls_queued", "Calls that wait for a place."),
    ("pomelo_module_instances_idle", "Warm instances that no call uses."),
    (
        "pomelo_module_put_aside",
        "Handlers of a module's file that are not called because they keep trapping, by whose calls.",
    ),
    ("pomelo_modules", "Module ids in force."),
    ("pomelo_connections", "TCP connections that are open."),
    (
        "pomelo_tls_certificate_end_seconds",
        "Seconds until this host's certificate ends; negative when it has ended. Only where the port speaks TLS.",
    ),
    ("pomelo_servers", "Servers in the table."),
    ("pomelo_monitors", "Monitors that are connected, slaves and those of servers that do not run among them."),
    ("pomelo_clients", "Clients that are connected."),
    ("pomelo_servers_held", "Servers that vanished together with many others and are retained in the table."),
    (
        "pomelo_peers_bytes",
        "Bytes that are held for peers, by their class: what is being received, messages under way, what waits to be sent.",
    ),
    (
        "pomelo_peers_shared_bytes",
        "Bytes of large texts that several peers are sent, each held once and charged to none of them; at most a quarter of peers_mib.",
    ),
    (
        "pomelo_peers_turned_away_total",
        "Connections that were ended because theirs held most when a share of peers_mib was used up.",
    ),
    (
        "pomelo_messages_refused_total",
        "Requests that were refused because too many messages of their connection, or of its class, are under way.",
    ),
    ("pomelo_outbox_frames", "Frames that wait to be sent, over all monitors (on a monitor: to the master)."),
    ("pomelo_outbox_frames_max", "Frames that wait to be sent to the monitor that is furthest behind."),
    ("pomelo_requests_under_way", "Requests to monitors (on a monitor: to the master) that have not been answered."),
    ("pomelo_jobs_under_way", "Jobs of the fleet that are not over."),
    ("pomelo_starts_waiting", "Programs that wait for their turn to be started."),
    ("pomelo_faults", "Whether a fault of the machine lasts, by what has met it; only what has met one."),
    ("pomelo_registered", "Whether this monitor is registered with its master."),
    ("pomelo_healthy", "Whether this monitor's program runs and its checks find it healthy; only where it is checked."),
    ("pomelo_build_info", "1; the version is in the label."),
];

/// Gives the recorder the HELP texts.
pub(super) fn all() {
    for (name, help) in COUNTERS {
        describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(*name, *help);
    }
    describe_histogram!(
        "pomelo_handler_duration_seconds",
        Unit::Seconds,
        "Time from a call's arrival to its end, waiting included."
    );
    metrics::gauge!("pomelo_build_info", "version" => crate::wire::VERSION).set(1.0);
}
