#!/usr/bin/env node
// Kills the master in the middle of rolling restarts, again and again. Each time a new master is started at once on the same configuration.
// docs/fleet.md says what it has to make of what it finds.
"use strict";

const fs = require("node:fs");

const { Cluster, eventually, freePorts, kill, main, sleep } = require("./lib/cluster");
const { ROOT } = require("./lib/packages");
const { random } = require("./lib/random");
const { say, check, figure } = require("./lib/report");
const { options } = require("./lib/options");

const given = options("Kills the master at random points of rolling restarts, and looks at what the next one makes of it.", {
  kills: [50, "how often the master is killed in a rolling restart"],
  servers: [6, "servers that are restarted one after another, at least 2"],
  others: [3, "servers that are stopped and started beside that, at least 1"],
});
const AWAY = 2; // servers of a type that may be away
const TWICE = 0.2; // share of the new masters that are killed as well, while they start
const ORDERED = 0.7; // share of the restarts beside which a server is stopped or started
const OVER = ["done", "failed", "cancelled", "interrupted"];
const { next, pick } = random(given.seed);

const numbered = (type, count) => Array.from({ length: count }, (_, n) => `${type}-${n + 1}`);
const half = Math.ceil(given.servers / 2);
const rolled = [...numbered("gate", half), ...numbered("chat", given.servers - half)];
const others = numbered("area", given.others);
const ids = [...rolled, ...others];

function servers(dir) {
  const server = (id) => ({ id, host: "127.0.0.1", command: ["sh", `${ROOT}/shows/programs/worker.sh`, dir] });
  const of = (type) => ids.filter((id) => id.startsWith(`${type}-`)).map(server);
  return { gate: of("gate"), chat: of("chat"), area: of("area") };
}

main(given, async (owned) => {
  const [port] = await freePorts(1);
  const cluster = owned(new Cluster(port, servers, "[supervise]\nready_delay_ms = 100\nbackoff_min_ms = 100\n"));
  const show = new Show(cluster);
  say(`seed ${given.seed}: ${rolled.length} servers are restarted one after another, ${others.length} are stopped and started beside that`);
  cluster.start();
  await show.settled();
  const begun = Date.now();
  const whole = await cluster.pomelo(show.roll(false));
  check("an undisturbed rolling restart is done", whole.code === 0, whole.err);
  show.length = Date.now() - begun;
  say(`undisturbed, a rolling restart takes ${(show.length / 1000).toFixed(1)} s`);
  for (let round = 1; round <= given.kills; round += 1) await show.round(round);

  const last = await cluster.pomelo(show.roll(false));
  check("after all that a rolling restart is done", last.code === 0, last.err);
  await show.settled();
  show.figures();
  const stopped = await cluster.pomelo(["stop", "--all"]);
  check("stop --all ends everything in order", stopped.code === 0 && (await cluster.master.ended).code === 0, stopped.err);
});

class Show {
  constructor(cluster) {
    this.cluster = cluster;
    this.wanted = new Map(ids.map((id) => [id, "up"]));
    this.length = 0; // ms that a rolling restart takes
    this.lives = 0; // bytes of the journal that were read
    this.starts = 0;
    this.kills = 0;
    this.states = new Map(); // what became of the jobs
    this.recoveries = []; // ms until all was as it is wanted
    this.keptStops = 0;
  }

  roll(back) {
    return ["restart", ...rolled, "--rolling", "--max-unavailable", String(AWAY), ...(back ? ["--no-wait", "--json"] : [])];
  }

  async round(number) {
    const { cluster } = this;
    const at = next() * this.length * 1.2;
    const order = next() < ORDERED ? pick(others) : null;
    const orderAt = next() * at * 0.6; // early enough to be answered now and then
    const begun = Date.now();
    const until = (time) => sleep(Math.max(0, begun + time - Date.now()));
    const rolling = cluster.pomelo(this.roll(true));
    const ordering = order ? until(orderAt).then(() => this.order(order)) : null;
    await until(at);
    await this.kill();
    const [job, ordered] = [await rolling, await ordering];
    let again = "";
    cluster.start();
    if (next() < TWICE) {
      await sleep(next() * this.length);
      await this.kill();
      cluster.start();
      again = ", and again while it started";
    }
    const restarted = Date.now();
    const state = await this.reported(job.code === 0 ? JSON.parse(job.out).job : null);
    await this.settled(ordered);
    this.recoveries.push(Date.now() - restarted);
    const orders = ordered ? `; ${ordered.words}` : "";
    const killed = `${String(number).padStart(3)}: killed after ${Math.round(at)} ms${again}`;
    say(`${killed}: the job is ${state}${orders}; all as wanted after ${this.recoveries.at(-1)} ms`);
  }

  async kill() {
    const { master } = this.cluster;
    kill(master.pid, "SIGKILL");
    await master.ended;
    this.kills += 1;
  }

  // Stops a server that is to run, or starts one that is not. What was answered holds; what was not may have been done or not.
  async order(id) {
    const wanted = this.wanted.get(id) === "up" ? "down" : "up";
    const done = await this.cluster.pomelo([wanted === "up" ? "restart" : "stop", id]);
    const answered = done.code === 0;
    if (answered) this.wanted.set(id, wanted);
    return { id, wanted, answered, words: `${wanted === "up" ? "start" : "stop"} of ${id} ${answered ? "answered" : "cut off"}` };
  }

  // What became of the job, which was accepted if it has a number: its state.
  async reported(number) {
    const jobs = await eventually("the new master answers", () => this.cluster.json(["jobs"]));
    let state = "not accepted";
    if (number !== null) {
      const job = jobs.find(({ id }) => id === number);
      state = job ? job.state : "forgotten";
      check("a job that was accepted has ended, or is reported as interrupted", OVER.includes(state), `job ${number}: ${state}`);
    }
    this.states.set(state, (this.states.get(state) ?? 0) + 1);
    return state;
  }

  // Waits until all servers are as they are wanted, and looks whether that is so indeed.
  async settled(ordered) {
    const { cluster } = this;
    const listed = await eventually("all servers are as they are wanted", async () => {
      const { out } = await cluster.pomelo(["list", "--json"]);
      if (out === "") return null;
      const { servers, msg } = JSON.parse(out);
      const known = servers.map(({ id }) => id).sort().join(" ");
      check("no server is forgotten, and there is no other", known === [...ids].sort().join(" "), known);
      this.unanswered(ordered, servers);
      // The monitors are asked at another moment than the fleet, so that one may not have answered yet that is known to run.
      const runs = ({ id, state }) => state === "running" && msg[id]?.state === "running";
      const is = (server) => (server.wanted === "up" ? runs(server) : server.state === "stopped");
      const settled = servers.every((server) => server.wanted === this.wanted.get(server.id) && is(server));
      this.contradicted(servers);
      return settled ? msg : null;
    });
    const programs = cluster.programs();
    for (const id of ids) {
      const [pids, wanted] = [programs.get(id) ?? [], this.wanted.get(id)];
      const right = wanted === "up" ? pids.length === 1 && pids[0] === listed[id]?.pid : pids.length === 0;
      check("one process of each server that is to run, the listed one, and none of others", right, `${id} is to be ${wanted}: ${pids}`);
    }
    this.keptStops += [...this.wanted.values()].filter((wanted) => wanted === "down").length;
    this.looked();
  }

  // An order that was not answered may have been carried out: then that is what is wanted.
  unanswered(ordered, servers) {
    if (!ordered || ordered.answered) return;
    const record = servers.find(({ id }) => id === ordered.id);
    if (record) this.wanted.set(record.id, record.wanted);
  }

  // What was answered is never undone.
  contradicted(servers) {
    for (const { id, wanted, wantedBy } of servers) {
      const answered = this.wanted.get(id);
      check("a stop or start that was answered stays", wanted === answered, `${id} is wanted ${wanted} by ${wantedBy}, not ${answered}`);
    }
  }

  // Reads what the programs have written.
  looked() {
    const text = fs.readFileSync(this.cluster.path("lives"), "utf8");
    for (const line of text.slice(this.lives).split("\n").filter((line) => line !== "")) {
      const [, what, id, pid] = line.split(" ");
      if (what === "start") this.starts += 1;
      check("no server runs twice", what !== "second", `${id}: process ${pid} was started beside another`);
    }
    this.lives = text.length;
  }

  figures() {
    const sorted = [...this.recoveries].sort((a, b) => a - b);
    figure("seed", given.seed);
    figure("masters killed", `${this.kills}, of which ${given.kills} in a rolling restart and ${this.kills - given.kills} while they started`);
    figure("what became of the jobs", [...this.states].map(([state, count]) => `${count} ${state}`).join(", "));
    figure("until all was as wanted: median, longest", `${sorted[Math.floor(sorted.length / 2)]} ms, ${sorted.at(-1)} ms`);
    figure("programs started", this.starts);
    figure("answered stops that were looked at", this.keptStops);
  }
}
