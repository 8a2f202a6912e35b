// What the kernel says of processes: who belongs to a show, and what they use. Linux only.
"use strict";

const fs = require("node:fs");
const { execFileSync } = require("node:child_process");

// A file of /proc; empty where the process has ended meanwhile.
function read(path) {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

// All processes that run and whose environment has `NAME=value`: whatever the master starts inherits its environment.
function marked(mark) {
  const found = [];
  for (const name of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const environment = read(`/proc/${name}/environ`).split("\0");
    if (!environment.includes(mark) || state(Number(name)) === null) continue;
    const variable = (wanted) => environment.find((entry) => entry.startsWith(`${wanted}=`))?.slice(wanted.length + 1);
    found.push({ pid: Number(name), server: variable("POMELO_SERVER_ID"), args: read(`/proc/${name}/cmdline`).split("\0").slice(0, -1) });
  }
  return found;
}

// The numbers of /proc/PID/stat after the name, from the state on; null for one that has ended, also where nobody has waited for it.
function state(pid) {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return stat === "" || fields[0] === "Z" || fields[0] === "X" ? null : fields;
}

const runs = (pid) => state(pid) !== null;
// The process that has started it.
const parent = (pid) => Number(state(pid)?.[1] ?? 0);

const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

// CPU time that a process has used, with that of its children for which it has waited, seconds.
function cpu(pid) {
  const fields = state(pid);
  return fields === null ? 0 : fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS;
}

// Memory of a process, bytes: its own and its share of what it has in common with others.
function pss(pid) {
  return Number(/^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}

// The load average of the last minute.
const load = () => Number(read("/proc/loadavg").split(" ")[0]);

module.exports = { marked, runs, parent, cpu, pss, load, read };
