// What every surface of a master says of its servers.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const { packages, ROOT } = require("./packages");

const { io } = packages("socket.io-client");
const ANSWER = 30000; // ms that an answer may take

// `list`: {ms, states: {id: state}, pids: {id: pid}}, from the words of its table.
async function listed(cluster) {
  const { out, ms } = await cluster.pomelo(["list"]);
  const [head, ...rows] = out.trimEnd().split("\n").map((line) => line.trim().split(/\s{2,}/));
  const column = (name) => head.indexOf(name);
  const of = (name) => Object.fromEntries(rows.map((row) => [row[0], row[column(name)]]));
  return { ms, states: of("STATE"), pids: of("PID") };
}

// `list --json`: {ms, servers: {id: record}, figures: {id: figures}}.
async function listedAsJson(cluster) {
  const { out, ms } = await cluster.pomelo(["list", "--json"]);
  const { servers, msg } = JSON.parse(out);
  return { ms, servers: Object.fromEntries(servers.map((record) => [record.id, record])), figures: msg };
}

// `list` of npm's `pomelo`, which knows processes and no states: {id: pid}.
async function listedByNpm(cluster) {
  const tool = path.join(ROOT, "tests/fixtures/js/node_modules/pomelo/bin/pomelo");
  const login = ["-h", "127.0.0.1", "-P", String(cluster.port), "-u", "admin", "-p", "admin"];
  const done = await cluster.run(process.execPath, [tool, "list", ...login], { env: { NODE_NO_WARNINGS: "1" } });
  // Without colours.
  const lines = done.out.replace(/\u001b\[\d+m/g, "").split("\n").map((line) => line.trim().split(/\s+/));
  const first = lines.findIndex(([word]) => word === "serverId");
  return Object.fromEntries(lines.slice(first + 1).filter((row) => row.length === 7).map(([id, , pid]) => [id, Number(pid)]));
}

// What the page asks for and shows: {count, states: {id: state}, events}. It is a Socket.IO client; `merged` and the rest are as in
// host/src/web/page.js.
async function paged(cluster) {
  const socket = io(`http://127.0.0.1:${cluster.port}`, { transports: ["websocket"], forceNew: true, reconnection: false });
  try {
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    const emit = (topic, payload) => socket.timeout(ANSWER).emitWithAck(topic, payload);
    const login = await emit("register", { type: "client", id: `page-${process.pid}`, username: "admin", password: "admin" });
    if (login.code !== 1) throw new Error(`the page is refused: ${login.msg}`);
    const { body } = await emit("client", { moduleId: "__console__", body: { signal: "list" } });
    const { body: page } = await emit("client", { command: "events", body: { since: 0, wait: 0 } });
    const servers = new Map(body.servers.map((record) => [record.id, { record }]));
    for (const [id, figures] of Object.entries(body.msg)) {
      if (!servers.has(id)) servers.set(id, { record: null, figures });
    }
    const stateOf = ({ record, figures }) => (record ? record.state : figures ? figures.state || "running" : "no answer");
    const wanted = [...servers.values()].filter(({ record }) => !record || record.wanted === "up");
    const running = wanted.filter((server) => stateOf(server) === "running").length;
    const states = Object.fromEntries([...servers].map(([id, server]) => [id, stateOf(server)]));
    return { count: `${running} of ${wanted.length} running`, states, events: page.events };
  } finally {
    socket.disconnect();
  }
}

// `/healthz`: {status, problems, servers: {state: count}}.
async function healthy(cluster) {
  return (await fetch(`http://127.0.0.1:${cluster.port}/healthz`, { signal: AbortSignal.timeout(ANSWER) })).json();
}

// `/metrics`: a list of {name, labels, value}.
async function metrics(cluster) {
  const text = await (await fetch(`http://127.0.0.1:${cluster.port}/metrics`, { signal: AbortSignal.timeout(ANSWER) })).text();
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
    const [, name, inner = "", value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    const labels = Object.fromEntries([...inner.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]));
    return { name, labels, value: Number(value) };
  });
}

// `events --json`, a list.
async function happened(cluster) {
  const { out } = await cluster.pomelo(["events", "--json"]);
  return out.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

// What programs have written with worker.sh and crashing.sh: [{time, what, id, pid}…].
function lives(cluster) {
  const text = fs.readFileSync(cluster.path("lives"), "utf8");
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const [time, what, id, pid] = line.split(" ");
    return { time: Number(time), what, id, pid: Number(pid) };
  });
}

module.exports = { listed, listedAsJson, listedByNpm, paged, healthy, metrics, happened, lives };
