// What the journal of the WebSocket servers says of a rolling restart: who was away when, who was cut, and what every view has shown.
"use strict";

const { check } = require("./report");

// Reads the journal in its order, and checks it. `away` is how many servers may be away at once, `slack` how many milliseconds a program may learn
// later than its monitor that it drains.
function draining(journal, { away, slack }) {
  const told = { drained: new Set(), mostAway: 0, cuts: 0, earliest: Infinity, slowest: 0, views: 0 };
  const drains = new Map(); // process → {id, time, deadlineMs}
  const gone = new Map(); // id → process that drains or has ended, until the next is up
  const views = new Map(); // process → what its last view was
  const dropped = new Map(); // process → the processes that its views had and have no more
  const ids = new Set(journal.map(({ id }) => id));
  const over = new Set(); // processes that were stopped after a drain of which all others had time to learn

  const viewed = ({ id, pid, time, pids }) => {
    told.views += 1;
    const before = views.get(pid);
    const shown = new Set(Object.values(pids));
    const droppedBefore = dropped.get(pid) ?? new Set();
    for (const process of shown) {
      check("no view names a server again that has begun to drain", !droppedBefore.has(process), `${id} (${pid}) names ${process}`);
      check("no view names a server that was stopped, not even the first of a new process", !over.has(process), `${id} (${pid}) names ${process}`);
    }
    for (const process of before ?? []) {
      if (shown.has(process)) continue;
      droppedBefore.add(process);
      const drain = drains.get(process);
      if (drain) told.slowest = Math.max(told.slowest, time - drain.time);
    }
    dropped.set(pid, droppedBefore);
    views.set(pid, shown);
    // Until all servers have started for the first time, views grow.
    const missing = [...ids].filter((known) => pids[known] === undefined);
    if (drains.size > 0 && before) check(`no view misses more than ${away} servers at once`, missing.length <= away, `${id} misses ${missing}`);
  };

  // Where nobody was turned away, that has shown itself.
  check("no client is sent to a server that drains", true);
  for (const entry of journal) {
    const { id, pid, time, event } = entry;
    if (event === "up") gone.delete(id);
    else if (event === "view") viewed(entry);
    else if (event === "drain") {
      drains.set(pid, { id, time, deadlineMs: entry.deadlineMs });
      told.drained.add(id);
      gone.set(id, pid);
    } else if (event === "undrain") {
      drains.delete(pid);
      gone.delete(id);
    } else if (event === "stop") {
      check("no server is stopped without a drain", drains.has(pid), `${id} (${pid})`);
      gone.set(id, pid);
      views.delete(pid);
      const drain = drains.get(pid);
      // One that had nobody to wait for is stopped at once, and the others may be told a little later.
      if (!drain || time - drain.time < slack) continue;
      over.add(pid);
      for (const [other, shown] of views) {
        check("every view has dropped a server before it is stopped", !shown.has(pid), `${other} still names ${id} (${pid})`);
      }
    } else if (event === "turned-away") {
      const drain = drains.get(pid);
      const after = drain ? time - drain.time : 0;
      check("no client is sent to a server that drains", after < slack, `${entry.client} came to ${id} ${after} ms after it had begun to drain`);
    } else if (event === "cut") {
      const drain = drains.get(pid);
      const after = drain ? time - drain.time : 0;
      told.cuts += 1;
      told.earliest = Math.min(told.earliest, after);
      const due = drain && after >= drain.deadlineMs - slack;
      check("no client is cut before its server's deadline", due, `${entry.client} at ${id} after ${after} ms`);
    }
    told.mostAway = Math.max(told.mostAway, gone.size);
    check(`never more than ${away} servers are away at once`, gone.size <= away, [...gone.keys()].join(" "));
  }
  return told;
}

module.exports = { draining };
