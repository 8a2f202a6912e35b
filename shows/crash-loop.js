#!/usr/bin/env node
// Two hundred servers under one `pomelo start`, of which 86 crash-loop: whether every surface tells the same of them, what that costs, and whether an
// operator can still work. docs/fleet.md says what the states are.
"use strict";

const { Cluster, eventually, freePorts, main, sleep } = require("./lib/cluster");
const { compare } = require("./lib/compare");
const { entries } = require("./lib/journal");
const { ROOT } = require("./lib/packages");
const { cpu, load, pss, read } = require("./lib/processes");
const { random } = require("./lib/random");
const { say, check, figure, seconds } = require("./lib/report");
const { options, wrong } = require("./lib/options");
const { healthy, listedAsJson, lives } = require("./lib/surfaces");

const given = options("Runs 200 servers of which 86 crash-loop, and compares what every surface says of them.", {
  servers: [200, "servers in all"],
  crashing: [86, "servers that crash-loop; one of eight is not started again when it has ended"],
  websocket: [14, "WebSocket servers among those that run; they are restarted in the end"],
  described: [20, "servers that are looked at by `describe`"],
  window: [20, "seconds for which CPU time is measured"],
});
const INSTANCES = 128; // instances of inotify that Linux gives a user by default
const FILES = 1024; // open files that a process may have by default
const RESTARTS = 6; // times that a server has crashed when it counts as one in a crash loop
const START = 300000; // ms that the start of all servers may take

const once = Math.floor(given.crashing / 8);
const working = given.servers - given.crashing - given.websocket;
if (working < 1) wrong("--servers: more are needed than crash or are WebSocket servers");
if (given.websocket < 2 || given.crashing < 2) wrong("--websocket and --crashing: two are needed at least");
const named = (name, count) => Array.from({ length: count }, (_, n) => `${name}-${n + 1}`);
const groups = {
  websocket: named("connector", given.websocket),
  working: named("chat", working),
  looping: named("chat-broken", given.crashing - once),
  failing: named("game-broken", once),
};
const running = [...groups.websocket, ...groups.working].sort();

function servers(ports, dir) {
  const program = (name) => `${ROOT}/shows/programs/${name}`;
  const at = { host: "127.0.0.1" };
  const websocket = (id, n) => ({
    id, ...at, port: ports[n], frontend: true, ready: "control",
    command: ["node", program("websocket.js"), "${port}", `${dir}/journal`, String(n)],
  });
  const worker = (id) => ({ id, ...at, command: ["sh", program("worker.sh"), dir] });
  const broken = (id) => ({ id, ...at, command: ["sh", program("crashing.sh"), dir] });
  return {
    connector: groups.websocket.map(websocket),
    chat: [...groups.working.map(worker), ...groups.looping.map(broken)],
    game: groups.failing.map((id) => ({ ...broken(id), restart: "never" })),
  };
}

main(given, async (owned) => {
  const [port, ...ports] = await freePorts(given.websocket + 1);
  const cluster = owned(new Cluster(port, (dir) => servers(ports, dir), ""));
  const [looping, failing] = [groups.looping.length, groups.failing.length];
  say(`${given.servers} servers: ${running.length} run, ${looping} crash-loop, ${failing} fail and are not started again`);
  const instances = Number(read("/proc/sys/fs/inotify/max_user_instances"));
  figure("limits", `${FILES} open files, ${instances} instances of inotify`);
  const advice = `sysctl fs.inotify.max_user_instances=${INSTANCES}`;
  check(`inotify has no more than the default of ${INSTANCES} instances here`, instances <= INSTANCES, advice);

  const begun = seconds();
  cluster.start(`-Sn ${FILES}`);
  // The master does not listen at once.
  const up = async () => (await healthy(cluster).catch(() => null))?.servers?.running === running.length;
  await eventually("all servers that can run do", up, START);
  figure(`until all ${running.length} servers that can run did`, `${(seconds() - begun).toFixed(1)} s`);
  figure("CPU time that all processes had used by then", `${used(cluster.processes()).toFixed(1)} s`);
  say(`${running.length} servers run`);
  const loops = ({ servers: records }) => groups.looping.every((id) => records[id].restarts >= RESTARTS)
    && groups.failing.every((id) => records[id].state === "failed");
  await eventually(`all others have crashed ${RESTARTS} times, or failed`, async () => loops(await listedAsJson(cluster)), START);
  say(`${groups.looping.length} servers have crashed ${RESTARTS} times or more`);

  await costs(cluster);
  const { some } = random(given.seed);
  const half = Math.floor(given.described / 2);
  const looked = [...some(running, given.described - half), ...some([...groups.looping, ...groups.failing], half)];
  await compare(cluster, { groups, running, looked });
  await orders(cluster);
  await ends(cluster);
});

const used = (processes) => processes.reduce((sum, { pid }) => sum + cpu(pid), 0);

// What it costs while nothing is done but that servers crash.
async function costs(cluster) {
  const all = cluster.processes();
  const isMonitor = ({ args }, ids) => args[1] === "monitor" && ids.some((id) => args.includes(id));
  const kinds = {
    "the master": ({ pid }) => pid === cluster.master.pid,
    "monitors of servers that run": (one) => isMonitor(one, running),
    "monitors of servers that crash-loop": (one) => isMonitor(one, groups.looping),
    "all guards": ({ args, server }) => args[0] === "sh" && args[1] === "-c" && server === undefined,
    "all programs": ({ server }) => server !== undefined,
  };
  const before = new Map(all.map(({ pid }) => [pid, cpu(pid)]));
  await sleep(given.window * 1000);
  for (const [kind, is] of Object.entries(kinds)) {
    const those = all.filter(is);
    const spent = those.reduce((sum, { pid }) => sum + Math.max(0, cpu(pid) - before.get(pid)), 0);
    const memory = those.reduce((sum, { pid }) => sum + pss(pid), 0);
    const share = `${((spent / given.window) * 100).toFixed(1)} %`;
    figure(`${kind}: processes, CPU of one core, memory (PSS)`, `${those.length}, ${share}, ${(memory / 2 ** 20).toFixed(0)} MiB`);
  }
  figure("load average", load());
  const polling = cluster.read("master.log").split("\n").filter((line) => line.includes("max_user_instances")).length;
  figure("hosts that look at their modules' directory by polling", polling);
}

// A stop that holds, and a restart that is seen to go on.
async function orders(cluster) {
  const started = () => {
    const counts = new Map();
    for (const { what, id } of lives(cluster)) if (what === "start") counts.set(id, (counts.get(id) ?? 0) + 1);
    return counts;
  };
  const [stopped, ...others] = groups.looping;
  const stop = await cluster.pomelo(["stop", stopped]);
  check("a server in a crash loop can be stopped", stop.code === 0 && stop.out === `stopped: ${stopped}\n`, `${stop.out}${stop.err}`);
  const then = started();

  const before = cluster.programs();
  const lines = [];
  const restart = await cluster.pomelo(["restart", "--type", "connector"], { timeout: 120000, told: (line) => lines.push(line) });
  check("restart --type is done", restart.code === 0 && restart.out === "restarted\n", `${restart.code} ${restart.err}`);
  const unsaid = groups.websocket.filter((id) => !lines.some((line) => line.includes(`${id}: done`)));
  check("restart --type tells of each server when it is done", unsaid.length === 0, `${unsaid} of ${lines.join("; ")}`);
  const after = cluster.programs();
  const same = groups.websocket.filter((id) => after.get(id)?.length !== 1 || after.get(id)[0] === before.get(id)?.[0]);
  check("each of them is a new process", same.length === 0, same);
  figure(`restart of ${groups.websocket.length} servers`, `${(restart.ms / 1000).toFixed(1)} s`);

  say("waiting until all others have crashed once more");
  await eventually("all others have crashed once more", () => others.every((id) => started().get(id) > then.get(id)), START);
  const { servers: records } = await listedAsJson(cluster);
  const held = started().get(stopped) === then.get(stopped) && records[stopped].state === "stopped" && records[stopped].wanted === "down";
  check("the one that was stopped stays down", held, JSON.stringify(records[stopped]));
}

// All is ended, in order.
async function ends(cluster) {
  const stop = await cluster.pomelo(["stop", "--all"], { timeout: 120000 });
  const { code } = await cluster.master.ended;
  check("stop --all is done, and the master has ended in order", stop.code === 0 && code === 0, `${stop.code} ${code} ${stop.err}`);
  figure("stop of everything", `${(stop.ms / 1000).toFixed(1)} s`);
  const ended = new Set(lives(cluster).filter(({ what }) => what === "end").map(({ id }) => id));
  const asked = new Set(entries(cluster.read("journal")).filter(({ event }) => event === "stop").map(({ pid }) => pid));
  const killed = groups.working.filter((id) => !ended.has(id));
  const all = killed.length === 0 && asked.size === 2 * groups.websocket.length;
  check("every program that ran was asked to end, and did", all, `${killed} ${asked.size}`);
}
