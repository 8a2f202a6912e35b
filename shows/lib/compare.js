// Whether all surfaces tell the same.
"use strict";

const { say, check, figure } = require("./report");
const { happened, healthy, listed, listedAsJson, listedByNpm, metrics, paged } = require("./surfaces");

const sorted = (ids) => [...ids].sort();
const same = (one, other) => sorted(one).join(" ") === sorted(other).join(" ");
// What one list has and the other has not.
const differ = (one, other) => [...one].filter((id) => ![...other].includes(id)).concat([...other].filter((id) => ![...one].includes(id))).slice(0, 5).join(" ");

// Asks all surfaces, one after another. `groups` are the ids by what becomes of them, `running` those that run, `looked` those that are described.
//
// A server in a crash loop is started now and then, so that two answers of different moments may differ without a lie. What is compared word by word are
// the servers whose records are the same before and after.
async function compare(cluster, { groups, running, looked }) {
  const before = await listedAsJson(cluster);
  const [table, npm, page, health, samples, events] = [
    await listed(cluster), await listedByNpm(cluster), await paged(cluster), await healthy(cluster), await metrics(cluster), await happened(cluster),
  ];
  const described = [];
  for (const id of looked) described.push([id, await cluster.json(["describe", id])]);
  const after = await listedAsJson(cluster);
  say("all surfaces were asked");
  figure("`list`, `list --json`", `${table.ms} ms, ${Math.min(before.ms, after.ms)} ms`);

  const broken = [...groups.looping, ...groups.failing];
  const all = [...running, ...broken];
  const { servers } = before;
  const known = (record) => record && [record.state, record.since, record.restarts, record.exits.at(-1)?.time].join(" ");
  const steady = all.filter((id) => known(servers[id]) === known(after.servers[id]));
  const is = (id) => servers[id].state;
  const every = (what, ids, holds, shown) => {
    const wrong = ids.filter((id) => !holds(id));
    check(what, wrong.length === 0, wrong.slice(0, 3).map((id) => `${id}: ${shown(id)}`).join("; "));
  };
  figure("servers whose state was the same before and after", `${steady.length} of ${all.length}`);

  check("list --json has all servers and no others", same(Object.keys(servers), all), differ(Object.keys(servers), all));
  every("list --json: who can run, runs", running, (id) => is(id) === "running", is);
  every("list --json: who crashes backs off or is started again", groups.looping, (id) => ["backing-off", "starting"].includes(is(id)), is);
  every("list --json: who is not started again has failed, and why", groups.failing, (id) => is(id) === "failed" && /code 7/.test(servers[id].why), (id) => JSON.stringify(servers[id]));
  every("list --json: who crashes was seen to end with code 7", broken, (id) => servers[id].exits.length > 0 && servers[id].exits.every(({ how }) => /code 7/.test(how)), (id) => JSON.stringify(servers[id].exits));
  every("list --json: all are wanted up", all, (id) => servers[id].wanted === "up", (id) => servers[id].wanted);
  every("list --json: figures are of those that run, with their processes", running, (id) => before.figures[id]?.pid > 0, (id) => JSON.stringify(before.figures[id]));
  every("list --json: no figures say that a server runs that does not", broken, (id) => before.figures[id]?.state !== "running", (id) => JSON.stringify(before.figures[id]));

  check("list has all servers and the master", same(Object.keys(table.states), [...all, "master"]), differ(Object.keys(table.states), [...all, "master"]));
  every("list says the same", steady, (id) => table.states[id] === is(id), (id) => `${table.states[id]}, not ${is(id)}`);
  every("the page says the same", steady, (id) => page.states[id] === is(id), (id) => `${page.states[id]}, not ${is(id)}`);
  // The master counts as one that is to run and does.
  const count = `${running.length + 1} of ${all.length + 1} running`;
  check("the page counts those that run and those that are to run", page.count === count, `${page.count}, not ${count}`);
  every("npm's list has no processes of those that do not run", steady.filter((id) => broken.includes(id)), (id) => !(npm[id] > 0), (id) => npm[id]);
  every("npm's list has the processes of list --json", running, (id) => npm[id] === before.figures[id]?.pid, (id) => npm[id]);
  for (const [id, shown] of described) {
    check("describe says the same", shown !== null && (!steady.includes(id) || shown.server.state === is(id)), `${id}: ${JSON.stringify(shown?.server)}`);
    if (broken.includes(id)) check("describe shows how it ended, with its last lines", JSON.stringify(shown?.server.exits ?? "").includes("no such table"), `${id}: ${JSON.stringify(shown?.server.exits)}`);
  }

  check("/healthz is degraded", health.status === "degraded", health.status);
  const problems = new Map(health.problems.map((problem) => [problem.split(" ")[0], problem]));
  every("/healthz names who does not run, with the reason", steady.filter((id) => broken.includes(id)), (id) => problems.get(id)?.startsWith(`${id} is ${is(id)}: `), (id) => problems.get(id));
  every("/healthz names nobody who runs", running, (id) => !problems.has(id), (id) => problems.get(id));
  const counted = Object.values(health.servers).reduce((sum, number) => sum + number, 0);
  check("/healthz counts all servers, and those that run", counted === all.length && health.servers.running === running.length && (health.servers.failed ?? 0) === groups.failing.length, JSON.stringify(health.servers));

  const of = (name) => samples.filter((sample) => sample.name === name);
  const state = new Map(of("pomelo_server_state").map(({ labels }) => [labels.id, labels.state]));
  every("/metrics says the same", steady, (id) => state.get(id) === is(id), (id) => state.get(id));
  const up = of("pomelo_server_up").filter(({ value }) => value === 1).map(({ labels }) => labels.id);
  check("/metrics: those that run are up, and no others", same(up, running), differ(up, running));
  const sum = (name) => of(name).reduce((total, { value }) => total + value, 0);
  check("/metrics: the sums of all types", sum("pomelo_servers_running") === running.length && sum("pomelo_servers_wanted") === all.length, `${sum("pomelo_servers_running")} of ${sum("pomelo_servers_wanted")}`);
  check("/metrics: the table has those that run and the master", sum("pomelo_servers") === running.length + 1, sum("pomelo_servers"));

  told("events", events, { groups, running, servers });
  told("the page's events", page.events, { groups, running, servers });
  figure("events that are kept, and what they stand for", `${events.length}, ${events.reduce((total, { count: times = 1 }) => total + times, 0)}`);
}

// Events of a crash loop are folded, and push nothing out.
function told(where, events, { groups, running, servers }) {
  const count = (id, kind) => events.filter((event) => event.server === id && event.kind === kind).length;
  for (const id of [...groups.looping, ...groups.failing]) {
    // One that is not started again is given up, by its monitor and then with its monitor, which ends with code 6.
    const ends = events.filter(({ server, kind, code }) => server === id && (kind === "exit" || (kind === "given-up" && code !== 6)));
    const times = ends.reduce((total, { count: often = 1 }) => total + often, 0);
    check(`${where}: a crash loop is folded, with its code`, ends.length === 1 && ends.every(({ code }) => code === 7), `${id}: ${JSON.stringify(ends)}`);
    check(`${where}: the count is that of its ends`, times >= servers[id].restarts, `${id}: ${times} ends, ${servers[id].restarts} restarts`);
  }
  for (const id of running) check(`${where}: that a server joined is not pushed out`, count(id, "join") >= 1, id);
}

module.exports = { compare };
