// A cluster of real processes in a directory of its own. However the show ends, its processes and its directory end with it.
"use strict";

const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { spawn, execFileSync } = require("node:child_process");
const { setTimeout: sleep } = require("node:timers/promises");

const { ROOT } = require("./packages");
const { marked, parent, runs } = require("./processes");
const { check, table } = require("./report");

const LOOK = 50; // ms between two looks of a wait
const WAIT = 60000; // ms that a wait may take, where nothing else is said
const GONE = 20000; // ms that what is left of a show may take to end
const TAIL = 30; // lines of the master's log that are shown where a show has failed

// The program: the one that POMELO names, else the one of this repository, which is built where it is missing.
function program() {
  if (process.env.POMELO) return path.resolve(process.env.POMELO);
  const built = path.join(ROOT, "target/debug/pomelo");
  if (!fs.existsSync(built)) execFileSync("cargo", ["build", "--locked", "-p", "pomelo-host"], { cwd: ROOT, stdio: "inherit" });
  return built;
}

class Cluster {
  // `servers` is what servers.json holds, or a function that makes it of the directory; `settings` is pomelo.toml.
  constructor(port, servers, settings) {
    this.program = program();
    this.port = port;
    // With a short name, because the path of a control socket is at most 107 bytes long.
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), "show-"));
    // Whatever belongs to this cluster has this in its environment.
    this.mark = `POMELO_SHOW=${this.dir}`;
    this.env = { ...process.env, POMELO_SHOW: this.dir, POMELO_PORT: String(port), POMELO_PASSWORD: "admin" };
    // A show owes nothing to the environment of whoever runs it, but for where compiled modules are kept.
    for (const name of ["POMELO_HOST", "POMELO_USERNAME", "POMELO_TOKEN", "POMELO_LOG", "POMELO_LOG_FORMAT", "NOTIFY_SOCKET"]) delete this.env[name];
    this.write("master.json", JSON.stringify({ id: "master", host: "127.0.0.1", port }));
    this.write("servers.json", JSON.stringify(typeof servers === "function" ? servers(this.dir) : servers));
    this.write("adminUser.json", JSON.stringify([{ id: "1", username: "admin", password: "admin", level: 1 }]));
    this.write("pomelo.toml", settings);
    this.master = null;
  }

  path(name) {
    return path.join(this.dir, name);
  }

  write(name, text) {
    fs.writeFileSync(this.path(name), text);
  }

  // The text of a file; empty where it is not there yet.
  read(name) {
    try {
      return fs.readFileSync(this.path(name), "utf8");
    } catch {
      return "";
    }
  }

  // `pomelo start`, in a group of its own, with its output in master.log. `limits` are for a shell's ulimit, such as `-Sn 1024`.
  start(limits = "") {
    const log = fs.openSync(this.path("master.log"), "a");
    const command = `${limits ? `ulimit ${limits} && ` : ""}exec "$0" start --config "$1"`;
    const master = spawn("sh", ["-c", command, this.program, this.dir], {
      cwd: this.dir, env: this.env, detached: true, stdio: ["ignore", log, log],
    });
    fs.closeSync(log);
    master.ended = new Promise((resolve) => master.once("exit", (code, signal) => resolve({ code, signal })));
    this.master = master;
    return master;
  }

  // Runs a command of the program to its end: {code, out, err, ms}. `told` is called with each line of its standard error, as it comes.
  pomelo(args, { timeout = WAIT, told } = {}) {
    return this.run(this.program, args, { timeout, told });
  }

  // Runs any command to its end, which is killed where it takes too long: its code is null then.
  run(file, args, { timeout = WAIT, told, env = {} } = {}) {
    return new Promise((resolve, reject) => {
      const begun = Date.now();
      const child = spawn(file, args, {
        cwd: this.dir, env: { ...this.env, ...env }, stdio: ["ignore", "pipe", "pipe"], timeout, killSignal: "SIGKILL",
      });
      const said = { out: "", err: "" };
      let line = "";
      child.stdout.setEncoding("utf8").on("data", (text) => (said.out += text));
      child.stderr.setEncoding("utf8").on("data", (text) => {
        said.err += text;
        const lines = (line + text).split("\n");
        line = lines.pop();
        if (told) lines.forEach(told);
      });
      child.once("error", reject);
      child.once("close", (code) => resolve({ code, ...said, ms: Date.now() - begun }));
    });
  }

  // What a command answers with --json; null where it fails.
  async json(args, limits) {
    const done = await this.pomelo([...args, "--json"], limits);
    return done.code === 0 ? JSON.parse(done.out) : null;
  }

  // The fleet's records by id; null where there is no master. `list` fails where a server that runs does not answer, and prints the list all the
  // same.
  async fleet() {
    const { out } = await this.pomelo(["list", "--json"]);
    if (out === "") return null;
    return new Map(JSON.parse(out).servers.map((record) => [record.id, record]));
  }

  // All processes of this cluster.
  processes() {
    return marked(this.mark).filter(({ pid }) => pid !== process.pid);
  }

  // The programs of servers that run, by id: [pid…] each. What a program has started itself does not count.
  programs() {
    const programs = this.processes().filter(({ server }) => server !== undefined);
    const pids = new Set(programs.map(({ pid }) => pid));
    const found = new Map();
    for (const { pid, server } of programs) {
      if (!pids.has(parent(pid))) found.set(server, [...(found.get(server) ?? []), pid]);
    }
    return found;
  }

  // Kills whatever is left, and waits until it is gone. Whether it is.
  async end() {
    const until = Date.now() + GONE;
    for (;;) {
      const left = this.processes();
      if (left.length === 0) return true;
      if (Date.now() > until) return false;
      // The master first: its guards then kill what it has started. Whoever is still there after a while is killed as well.
      if (this.master && runs(this.master.pid)) kill(this.master.pid, "SIGKILL");
      else if (Date.now() > until - GONE / 2) left.forEach(({ pid }) => kill(pid, "SIGKILL"));
      await sleep(LOOK);
    }
  }

  // The same for an end that cannot wait.
  endNow() {
    this.processes().forEach(({ pid }) => kill(pid, "SIGKILL"));
  }

  remove() {
    fs.rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

// Looks again and again until `look` finds something, and gives that.
async function eventually(what, look, wait = WAIT) {
  const until = Date.now() + wait;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > until) throw new Error(`${what}: not within ${wait / 1000} s`);
    await sleep(LOOK);
  }
}

// Ports of this machine that nobody listens on. They lie below those that the system gives to outgoing connections, because one of these could take
// the port of a server that is just restarted.
async function freePorts(count) {
  const [first] = fs.readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/).map(Number);
  const [low, high] = first > 12000 ? [10000, first] : [1024, 65536];
  const listeners = [];
  const at = low + Math.floor(Math.random() * (high - low));
  for (let step = 0; step < high - low && listeners.length < count; step += 1) {
    const port = low + ((at - low + step) % (high - low));
    const listener = net.createServer();
    const free = await new Promise((resolve) => {
      listener.once("error", () => resolve(false));
      listener.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (free) listeners.push(listener);
  }
  if (listeners.length < count) throw new Error(`there are no ${count} free ports on this machine`);
  const ports = listeners.map((listener) => listener.address().port);
  await Promise.all(listeners.map((listener) => new Promise((resolve) => listener.close(resolve))));
  return ports;
}

// Runs a show to its end: prints its table, and ends this process with 0 where all that was checked holds, else with 1. `show` is given a function
// that takes the cluster, so that it is ended whatever happens.
async function main(options, show) {
  let cluster = null;
  const owned = (made) => (cluster = made);
  process.once("exit", () => {
    if (!cluster || cluster.over) return;
    cluster.endNow();
    if (!options.keep) cluster.remove();
  });
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]]) process.once(signal, () => process.exit(code));
  const late = setTimeout(() => {
    check("the show ends within its limit", false, `${options.limit} s`);
    failed(cluster);
    table();
    process.exit(1);
  }, options.limit * 1000);
  try {
    await show(owned);
  } catch (error) {
    check("the show runs to its end", false, error.stack);
  }
  if (cluster) {
    check("nothing of the show is left running", await cluster.end(), cluster.processes().map(({ args }) => args.join(" ")).join("; "));
    clearTimeout(late);
    const passed = table();
    if (!passed) failed(cluster);
    if (options.keep) console.log(`what it has written is in ${cluster.dir}`);
    else cluster.remove();
    cluster.over = true;
    process.exit(passed ? 0 : 1);
  }
  table();
  process.exit(1);
}

function failed(cluster) {
  if (!cluster) return;
  const log = cluster.read("master.log").trimEnd().split("\n");
  console.log(`\nThe last lines of the master's log:\n${log.slice(-TAIL).join("\n")}`);
}

module.exports = { Cluster, eventually, freePorts, kill, main, sleep };
