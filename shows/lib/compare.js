// Whether all surfaces tell the same.
"use strict";

const { say, check, figure } = require("./report");
const { happened, healthy, listed, listedAsJson, listedByNpm, metrics, paged } = require("./surfaces");

const SHOWN = 3; // servers that are named where something is not so

// Asks all surfaces, one after another, and compares what they say. `groups` are the ids by what becomes of them, `running` those that run, `looked`
// those that are described.
//
// A server in a crash loop is started now and then, so that two answers of different moments may differ without a lie. What is compared word by word
// are the servers whose records are the same before and after: `steady`.
async function compare(cluster, { groups, running, looked }) {
  const before = await listedAsJson(cluster);
  const [table, npm, page] = [await listed(cluster), await listedByNpm(cluster), await paged(cluster)];
  const [health, samples, events] = [await healthy(cluster), await metrics(cluster), await happened(cluster)];
  const described = [];
  for (const id of looked) described.push([id, await cluster.json(["describe", id])]);
  const after = await listedAsJson(cluster);
  say("all surfaces were asked");

  const { servers, figures } = before;
  const broken = [...groups.looping, ...groups.failing];
  const all = [...running, ...broken];
  const known = (record) => record && [record.state, record.since, record.restarts, record.exits.at(-1)?.time].join(" ");
  const steady = all.filter((id) => known(servers[id]) === known(after.servers[id]));
  const seen = { groups, running, broken, all, steady, servers, figures, state: (id) => servers[id]?.state };
  figure("`list`, `list --json`", `${table.ms} ms, ${Math.min(before.ms, after.ms)} ms`);
  figure("servers whose record was the same before and after", `${steady.length} of ${all.length}`);
  figure("events that are kept, and what they stand for", `${events.length}, ${sum(events.map(({ count = 1 }) => count))}`);

  records(seen);
  tables(seen, table, npm, page);
  descriptions(seen, described);
  healthz(seen, health);
  prometheus(seen, samples);
  told("events", events, seen);
  told("the page's events", page.events, seen);
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// That holds of each of these; `shown` is what is seen where it does not.
function every(what, ids, holds, shown) {
  const wrong = ids.filter((id) => !holds(id));
  check(what, wrong.length === 0, wrong.slice(0, SHOWN).map((id) => `${id}: ${JSON.stringify(shown(id))}`).join("; "));
}

// These are the same ids, in whatever order.
function same(what, some, others) {
  const differ = [...some.filter((id) => !others.includes(id)), ...others.filter((id) => !some.includes(id))];
  check(what, differ.length === 0, differ.slice(0, SHOWN).join(" "));
}

// The records of the fleet are as they have to be.
function records({ groups, running, broken, all, servers, figures, state }) {
  const record = (id) => servers[id];
  const ends = (id) => record(id).exits;
  const withCode = ({ how }) => /code 7/.test(how);
  same("list --json has all servers and no others", Object.keys(servers), all);
  every("list --json: who can run, runs", running, (id) => state(id) === "running", state);
  every("list --json: who crashes backs off or is started again", groups.looping, (id) => /backing-off|starting/.test(state(id)), state);
  const failed = (id) => state(id) === "failed" && /code 7/.test(record(id).why);
  every("list --json: who is not started again has failed, and why", groups.failing, failed, record);
  every("list --json: who crashes was seen to end with code 7", broken, (id) => ends(id).length > 0 && ends(id).every(withCode), ends);
  every("list --json: all are wanted up", all, (id) => record(id).wanted === "up", record);
  const figuresOf = (id) => figures[id];
  every("list --json: those that run have figures", running, (id) => figures[id]?.pid > 0, figuresOf);
  every("list --json: no figures say that a server runs that does not", broken, (id) => figures[id]?.state !== "running", figuresOf);
}

function tables({ running, broken, all, steady, figures, state }, table, npm, page) {
  same("list has all servers and the master", Object.keys(table.states), [...all, "master"]);
  every("list says the same", steady, (id) => table.states[id] === state(id), (id) => table.states[id]);
  every("the page says the same", steady, (id) => page.states[id] === state(id), (id) => page.states[id]);
  // The master counts as one that is to run and does.
  const count = `${running.length + 1} of ${all.length + 1} running`;
  check("the page counts those that run and those that are to run", page.count === count, `${page.count}, not ${count}`);
  const down = steady.filter((id) => broken.includes(id));
  every("npm's list has no processes of those that do not run", down, (id) => !(npm[id] > 0), (id) => npm[id]);
  every("npm's list has the processes of list --json", running, (id) => npm[id] === figures[id]?.pid, (id) => npm[id]);
}

function descriptions({ broken, steady, state }, described) {
  for (const [id, shown] of described) {
    const server = shown?.server;
    check("describe says the same", server && (!steady.includes(id) || server.state === state(id)), `${id}: ${server?.state}`);
    if (!broken.includes(id)) continue;
    const ends = JSON.stringify(server?.exits ?? []);
    check("describe shows how it ended, with its last lines", ends.includes("no such table"), `${id}: ${ends}`);
  }
}

function healthz({ groups, running, broken, all, steady, state }, { status, problems, servers }) {
  check("/healthz is degraded", status === "degraded", status);
  const problem = (id) => problems.find((words) => words.startsWith(`${id} `));
  const down = steady.filter((id) => broken.includes(id));
  every("/healthz names who does not run, with the reason", down, (id) => problem(id)?.startsWith(`${id} is ${state(id)}: `), problem);
  every("/healthz names nobody who runs", running, (id) => !problem(id), problem);
  const right = sum(Object.values(servers)) === all.length && servers.running === running.length
    && (servers.failed ?? 0) === groups.failing.length;
  check("/healthz counts all servers, and those that run", right, JSON.stringify(servers));
}

function prometheus({ running, all, steady, state }, samples) {
  const of = (name) => samples.filter((sample) => sample.name === name);
  const total = (name) => sum(of(name).map(({ value }) => value));
  const states = new Map(of("pomelo_server_state").map(({ labels }) => [labels.id, labels.state]));
  every("/metrics says the same", steady, (id) => states.get(id) === state(id), (id) => states.get(id));
  const up = of("pomelo_server_up").filter(({ value }) => value === 1).map(({ labels }) => labels.id);
  same("/metrics: those that run are up, and no others", up, running);
  const [runs, wanted] = [total("pomelo_servers_running"), total("pomelo_servers_wanted")];
  check("/metrics: the sums of all types", runs === running.length && wanted === all.length, `${runs} of ${wanted}`);
  const table = total("pomelo_servers");
  check("/metrics: the table has those that run and the master", table === running.length + 1, table);
}

// Events of a crash loop are folded, and push nothing out.
function told(where, events, { running, broken, servers }) {
  for (const id of broken) {
    // One that is not started again is given up, by its monitor and then with its monitor, which ends with code 6.
    const is = ({ server, kind, code }) => server === id && (kind === "exit" || (kind === "given-up" && code !== 6));
    const ends = events.filter(is);
    const folded = ends.length === 1 && ends[0].code === 7;
    check(`${where}: a crash loop is folded, with its code`, folded, `${id}: ${JSON.stringify(ends)}`);
    const times = sum(ends.map(({ count = 1 }) => count));
    check(`${where}: the count is that of its ends`, times >= servers[id].restarts, `${id}: ${times} of ${servers[id].restarts}`);
  }
  const joined = (id) => events.some(({ server, kind }) => server === id && kind === "join");
  for (const id of running) check(`${where}: that a server joined is not pushed out`, joined(id), id);
}

module.exports = { compare };
