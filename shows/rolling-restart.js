#!/usr/bin/env node
// WebSocket servers with clients connected, and a rolling restart that lets them drain. docs/control-socket.md says what a drain is, docs/fleet.md
// what a rolling restart does.
"use strict";

const { Cluster, eventually, freePorts, main, sleep } = require("./lib/cluster");
const { Client } = require("./lib/client");
const { entries } = require("./lib/journal");
const { ROOT } = require("./lib/packages");
const { read } = require("./lib/processes");
const { random } = require("./lib/random");
const { say, check, figure } = require("./lib/report");
const { options, wrong } = require("./lib/options");
const { draining } = require("./lib/draining");

const TYPES = ["connector", "chat"];
const given = options("Restarts WebSocket servers one after another, without cutting a client off before its server's time is over.", {
  servers: [20, "servers, half of each of two types"],
  clients: [5, "clients of each server"],
  stubborn: [8, "clients that stay until they are cut"],
  away: [2, "servers that may be away at a time (--max-unavailable)"],
  "drain-ms": [4000, "how long a server may drain"],
  "slack-ms": [500, "how late a program may learn that it drains"],
});
const perType = given.servers / TYPES.length;
if (!Number.isInteger(perType) || perType <= given.away) wrong("--servers: an even number is needed, and more servers of a type than may be away");

const POLL = 500; // ms between two looks at the fleet
const { next, some } = random(given.seed);

function servers(ports, dir) {
  const server = (id, port, seed) => ({
    id, host: "127.0.0.1", port, frontend: true, ready: "control", drain_ms: given["drain-ms"], stop_deadline_ms: 5000,
    command: ["node", `${ROOT}/shows/programs/websocket.js`, "${port}", `${dir}/journal`, String(seed)],
  });
  const of = (type, first) => Array.from({ length: perType }, (_, n) => server(`${type}-${n + 1}`, ports[first + n], given.seed + first + n));
  return Object.fromEntries(TYPES.map((type, index) => [type, of(type, index * perType)]));
}

main(given, async (owned) => {
  const [port, ...ports] = await freePorts(given.servers + 1);
  const cluster = owned(new Cluster(port, (dir) => servers(ports, dir), ""));
  const ids = TYPES.flatMap((type) => Array.from({ length: perType }, (_, n) => `${type}-${n + 1}`));
  say(`seed ${given.seed}: ${given.servers} WebSocket servers, ${given.clients} clients each, of whom ${given.stubborn} do not leave by themselves`);
  cluster.start();
  const running = (fleet) => fleet && ids.every((id) => fleet.get(id)?.state === "running");
  await eventually("all servers run", async () => running(await cluster.fleet()));
  const before = cluster.programs();
  say("all servers run");

  const users = await clients(ports);
  say(`${users.length} clients are connected`);

  // Whatever the master says meanwhile.
  let looking = true;
  const looked = (async () => {
    while (looking) {
      const down = [...(await cluster.fleet()).values()].filter(({ state }) => state !== "running");
      const shown = down.map(({ id, state }) => `${id} ${state}`);
      check(`list shows at most ${given.away} servers that do not run`, down.length <= given.away, shown);
      await sleep(POLL);
    }
  })();
  const order = ["restart", "--all", "--rolling", "--max-unavailable", String(given.away), "--min-ready", "1", "--drain"];
  say(`pomelo ${order.join(" ")}`);
  const rolled = await cluster.pomelo(order, { timeout: given.limit * 1000, told: (line) => say(`  ${line}`) });
  looking = false;
  await looked;
  check("the command says that all were restarted", rolled.code === 0 && rolled.out === "restarted\n", `${rolled.code} ${rolled.out}${rolled.err}`);

  const after = cluster.programs();
  for (const id of ids) {
    check("each server runs, as one new process", after.get(id)?.length === 1 && after.get(id)[0] !== before.get(id)?.[0], `${id}: ${after.get(id)}`);
  }
  await eventually("every client has a server", () => users.every((user) => user.at !== null));
  await eventually("every view file names all new processes", () => ids.every((id) => names(viewFile(after.get(id)[0]), after)));
  check("every client has a server in the end, and every view file all servers", true);
  users.forEach((user) => user.leave());

  const told = draining(entries(cluster.read("journal")), { away: given.away, slack: given["slack-ms"] });
  check("every server has drained", told.drained.size === ids.length, `${told.drained.size} of ${ids.length}`);
  figure("seed", given.seed);
  figure("servers, clients", `${ids.length}, ${users.length}`);
  figure("the rolling restart took", `${(rolled.ms / 1000).toFixed(1)} s`);
  figure("servers away at once, at most", told.mostAway);
  figure("clients that went elsewhere when they were asked to", users.reduce((sum, user) => sum + user.moves, 0));
  figure("clients that were cut at their server's deadline", told.cuts);
  figure("the earliest cut after a program was told to drain", told.cuts ? `${told.earliest} ms of ${given["drain-ms"]} ms` : "none");
  figure("clients turned away by a server that had begun to drain", users.reduce((sum, user) => sum + user.turnedAway, 0));
  figure("until the last view had dropped a server that drains, at most", `${told.slowest} ms`);
  figure("longest time of a client without a server", `${Math.max(...users.map((user) => user.longest))} ms`);
  figure("changes of views that were looked at", told.views);

  const stopped = await cluster.pomelo(["stop", "--all"]);
  check("stop --all ends everything in order", stopped.code === 0 && (await cluster.master.ended).code === 0, stopped.err);
});

// Connects all clients, with those that are stubborn among them.
async function clients(ports) {
  const of = (port, server) => Array.from({ length: given.clients }, (_, n) => ({ name: `user-${server + 1}-${n + 1}`, port, server }));
  const all = ports.flatMap(of);
  const stubborn = new Set(some(all, given.stubborn));
  const lost = ({ name }) => check("no connection ends without a word", false, name);
  const users = all.map((one) => {
    const type = Math.floor(one.server / perType);
    // Most of the time is left for the rest.
    const patience = (deadline) => next() * deadline * 0.6;
    const user = new Client(one.name, { ports: ports.slice(type * perType, (type + 1) * perType), stubborn: stubborn.has(one), patience, lost });
    return { user, port: one.port };
  });
  await Promise.all(users.map(({ user, port }) => user.come(port)));
  check("no connection ends without a word", true);
  return users.map(({ user }) => user);
}

// The servers in the view file of a program, {id: info}.
function viewFile(pid) {
  const file = read(`/proc/${pid}/environ`).split("\0").find((entry) => entry.startsWith("POMELO_CLUSTER="));
  const text = file ? read(file.slice("POMELO_CLUSTER=".length)) : "";
  return text === "" ? {} : JSON.parse(text).servers;
}

const names = (view, programs) => [...programs].every(([id, [pid]]) => view[id]?.pid === pid);
