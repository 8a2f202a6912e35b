// Shows the cluster, as an ordinary Socket.IO client of the master. Everything from servers, modules and users is put into the page as text, never
// as HTML, and only by `element`, `title` and `write`. They escape what steers the text around it: controls, marks of bidirectional text, and what has
// no width.
import { io } from "./socket.io.esm.min.js";

const REFRESH = 3000; // ms between two requests for the servers
const ANSWER = 15000; // ms that an answer may take
const JOB_WAIT = 10000; // ms that a job is waited for; it goes on
const WAIT = 20000; // ms for which the master holds the answer to `events`
const KEPT = 500; // events on the page
const JOBS = 20; // jobs on the page

const $ = (id) => document.getElementById(id);
let socket = null;
let login = null; // what the page registers with, also when it connects again
let lastEvent = 0;
let turn = 0; // number of the connection; the loops of an earlier one end

// As `util/visible.rs` has it.
const STEERS = /(?![\n\t\ufe00-\ufe0f])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
const shown = (text) => String(text).replace(STEERS, (letter) =>
  letter.split("").map((unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0")).join(""));

function write(element, text) {
  element.textContent = shown(text);
}

function title(element, text) {
  element.title = shown(text);
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) write(made, text);
  if (className) made.className = className;
  return made;
}

/** Sends a frame; the answer's body, or an error with what the master says. */
function emit(topic, payload, wait = ANSWER) {
  return new Promise((resolve, reject) => {
    socket.timeout(wait).emit(topic, payload, (late, answer) => {
      if (late) reject(new Error("The master did not answer in time."));
      else if (answer && answer.error) reject(Object.assign(new Error(answer.error.message), { code: answer.error.code }));
      else resolve(topic === "client" ? answer.body : answer);
    });
  });
}
const ask = (moduleId, body) => emit("client", { moduleId, body });
const command = (name, body, wait) => emit("client", { command: name, body }, wait);

// Logging in

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  $("login-button").disabled = true;
  login = { username: $("username").value, password: $("password").value };
  connect();
});
$("logout").addEventListener("click", () => location.reload());

function connect() {
  if (socket) socket.disconnect();
  socket = io({ transports: ["websocket"], reconnectionDelayMax: 5000, forceNew: true });
  socket.on("connect", register);
  socket.on("disconnect", () => away("The master is away."));
  socket.on("connect_error", () => away("The master cannot be reached."));
}

async function register() {
  const id = "web-" + Array.from(crypto.getRandomValues(new Uint32Array(2)), (n) => n.toString(16)).join("");
  try {
    const answer = await emit("register", { type: "client", id, ...login });
    if (answer.code !== 1) return refused(answer.msg);
  } catch (error) {
    return refused(error.message);
  }
  $("password").value = "";
  $("login").hidden = true;
  $("cluster").hidden = false;
  write($("who"), login.username);
  state("connected", "good");
  lastEvent = 0;
  $("events").replaceChildren();
  turn += 1;
  look(turn);
  follow(turn);
}

function refused(why) {
  socket.disconnect();
  login = null;
  $("cluster").hidden = true;
  $("login").hidden = false;
  $("login-button").disabled = false;
  write($("login-error"), why);
  $("password").focus();
}

function away(why) {
  if (!login) return;
  if ($("cluster").hidden) {
    refused(why);
  } else {
    turn += 1;
    state("reconnecting", "bad");
  }
}

function state(text, className) {
  write($("connection"), text);
  $("connection").className = "badge " + className;
}

// Servers and modules

async function look(mine) {
  while (mine === turn) {
    if (!document.hidden) await refresh().catch((error) => mine === turn && say(error.message));
    await new Promise((resolve) => setTimeout(resolve, REFRESH));
  }
}

async function refresh() {
  const [servers, modules] = await Promise.all([ask("__console__", { signal: "list" }), command("modules")]);
  showServers(servers.msg, servers.missing || {}, servers.servers || []);
  showModules(modules.modules, modules.refused || {}, modules.installing || []);
  await refreshJobs();
}

/** Only level 1 is told of jobs. */
async function refreshJobs() {
  try {
    showJobs(await ask("__console__", { signal: "jobs" }));
  } catch (error) {
    if (error.code !== "forbidden") throw error;
    $("jobs-card").hidden = true;
  }
}

// What is neither good nor on its way is bad.
const STATES = { running: "good", enabled: "good", done: "good", pending: "warn", starting: "warn", "backing-off": "bad", draining: "warn",
  stopping: "warn", unready: "warn", "put-aside": "warn", queued: "warn", paused: "bad", cancelled: "warn", stopped: "dim", elsewhere: "dim" };

function row(table, key, cells) {
  const made = element("tr");
  made.dataset.id = key;
  cells.forEach((cell) => made.append(cell));
  table.append(made);
}

function fill(id, show) {
  const body = $(id).tBodies[0];
  // The button that has the focus keeps it.
  const focus = body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const fresh = document.createDocumentFragment();
  show(fresh);
  body.replaceChildren(fresh);
  if (focus) body.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
}

function button(action, id) {
  const made = element("button", action === "stop" ? "Stop" : "Restart");
  made.type = "button";
  made.dataset.key = `${action} ${id}`;
  made.addEventListener("click", () => act(action, id));
  return made;
}

function actions(id, isMaster) {
  const cell = element("td", null, "admin");
  if (!isMaster) cell.append(button("restart", id), button("stop", id));
  return cell;
}

/** All servers that are known, by id: what the fleet says of each, its figures, and why there are none. */
function merged(figures, missing, fleet) {
  const servers = new Map(fleet.map((record) => [record.id, { record, figures: figures[record.id], missing: missing[record.id] }]));
  // The fleet does not know the master and slaves.
  for (const id of [...Object.keys(figures), ...Object.keys(missing)]) {
    if (!servers.has(id)) servers.set(id, { record: null, figures: figures[id], missing: missing[id] });
  }
  return [...servers].sort(([a], [b]) => (a < b ? -1 : 1));
}

function showServers(answered, missing, fleet) {
  const servers = merged(answered, missing, fleet);
  const stateOf = ({ record, figures }) => (record ? record.state : figures ? figures.state || "running" : "no answer");
  fill("servers", (body) => {
    for (const [id, server] of servers) {
      const known = server.record || {};
      const figures = server.figures || {};
      const state = stateOf(server);
      const status = element("td", state, "dot " + (STATES[state] || "bad"));
      const last = known.exits?.at(-1) || figures.lastExit;
      if (last) title(status, "last " + (typeof last === "string" ? last : [last.how, ...(last.lines || [])].join("\n")));
      const runs = ["running", "no answer"].includes(state);
      const why = known.why || (runs && server.missing) || (state !== "running" && last && last.how) || "";
      const since = element("td", known.since ? new Date(known.since).toLocaleTimeString() : "–");
      if (known.since) since.title = new Date(known.since).toLocaleString();
      const wanted = element("td", known.wanted || "–");
      if (known.wantedBy) title(wanted, "by " + known.wantedBy);
      row(body, id, [
        element("td", id), element("td", known.serverType || figures.serverType || "–"), status, element("td", figures.pid || "–", "n"),
        element("td", number(figures.rss, " MB"), "n"), element("td", number(figures.cpu, " %"), "n"),
        element("td", minutes(figures.uptime), "n"), element("td", known.restarts ?? figures.restarts ?? "–", "n"),
        since, wanted, element("td", known.job ?? "–"), element("td", why, "text" + (STATES[state] ? "" : " bad")),
        actions(id, figures.serverType === "master"),
      ]);
    }
  });
  // A server that is to be down does not count as missing.
  const wanted = servers.filter(([, server]) => !server.record || server.record.wanted === "up");
  const running = wanted.filter(([, server]) => stateOf(server) === "running").length;
  $("servers-count").textContent = `${running} of ${wanted.length} running`;
}

function showJobs(jobs) {
  $("jobs-card").hidden = jobs.length === 0;
  fill("jobs", (body) => {
    for (const job of jobs.slice(0, JOBS)) {
      const over = job.servers.filter((server) => server.outcome).length;
      const progress = element("td");
      const bar = element("progress");
      bar.max = Math.max(job.servers.length, 1);
      bar.value = over;
      progress.append(bar, `${over} of ${job.servers.length}`);
      title(progress, job.servers.slice(0, KEPT).map((server) => `${server.id}: ${server.outcome || server.step}`).join("\n"));
      const failed = job.servers.filter((server) => server.why).map((server) => `${server.id}: ${server.why}`);
      const begun = element("td", new Date(job.created).toLocaleTimeString());
      begun.title = new Date(job.created).toLocaleString();
      row(body, job.id, [
        element("td", job.id), element("td", job.kind), element("td", job.state, "dot " + (STATES[job.state] || "bad")),
        progress, element("td", job.by), begun, element("td", job.why || failed.slice(0, 3).join("; "), "text"),
      ]);
    }
  });
  const open = jobs.filter((job) => ["queued", "running", "paused"].includes(job.state)).length;
  $("jobs-count").textContent = open ? `${open} under way` : "none under way";
}

function showModules(modules, refused, installing) {
  fill("modules", (body) => {
    for (const module of modules) {
      const source = String(module.source || "").split("/").pop();
      row(body, module.id, [
        element("td", module.id), element("td", module.version),
        element("td", module.state, "dot " + (STATES[module.state] || "bad")), element("td", module.calls, "n"),
        element("td", module.failures, "n" + (module.failures ? " warn" : "")), element("td", source),
        element("td", module.refused ? "refused: " + module.refused
          : [...(module.putAside || []).map((aside) => `${aside.handler} is put aside for ${aside.for}`), module.lastError].filter(Boolean).join("; "), "text"),
      ]);
    }
    for (const file of installing) {
      const said = element("td", "is being installed", "text warn");
      said.colSpan = 6;
      row(body, file + " installing", [element("td", file + ".wasm"), said]);
    }
    for (const [file, why] of Object.entries(refused)) {
      const said = element("td", "refused: " + why, "text bad");
      said.colSpan = 6;
      row(body, file, [element("td", file.endsWith("/") ? file : file + ".wasm"), said]);
    }
  });
  $("modules-count").textContent = `${modules.length} on the master`;
}

function number(value, unit) {
  const parsed = Number(value);
  return value === undefined || value === null || Number.isNaN(parsed) ? "–" : Math.round(parsed * 10) / 10 + unit;
}

function minutes(value) {
  const all = Math.floor(Number(value));
  if (value === undefined || Number.isNaN(all)) return "–";
  const [days, hours] = [Math.floor(all / 1440), Math.floor(all / 60) % 24];
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${all % 60} min` : `${all} min`;
}

async function act(action, id) {
  write($("confirm-text"),
    action === "stop" ? `Stop ${id}? It stays down until it is restarted.` : `Restart ${id}? Its connections are lost.`);
  $("confirm-yes").textContent = action === "stop" ? "Stop" : "Restart";
  $("confirm").returnValue = "no";
  $("confirm").showModal();
  await new Promise((resolve) => $("confirm").addEventListener("close", resolve, { once: true }));
  if ($("confirm").returnValue !== "yes") return;
  try {
    const answer = await ask("__console__", { signal: action, ids: [id], wait: JOB_WAIT });
    if (answer.job !== undefined && !answer.stopped) {
      say(`Job ${answer.job} is ${answer.status}${answer.why ? ": " + answer.why : ", and goes on."}`);
      return refresh().catch(() => {});
    }
    const failed = Array.isArray(answer) ? answer : Object.values(answer.failed || {});
    say(failed.length ? failed.join("; ") : `${id} was ${action === "stop" ? "stopped" : "restarted"}.`);
  } catch (error) {
    say(error.message);
  }
  refresh().catch(() => {});
}

// Events

async function follow(mine) {
  let quiet = false;
  while (mine === turn) {
    try {
      const page = await command("events", { since: lastEvent, wait: quiet ? WAIT : 0 }, WAIT + ANSWER);
      if (mine !== turn) return;
      document.body.classList.remove("read-only");
      page.events.forEach(showEvent);
      lastEvent = page.last;
      quiet = page.events.length === 0;
    } catch (error) {
      if (error.code === "forbidden") return document.body.classList.add("read-only");
      if (mine === turn) await new Promise((resolve) => setTimeout(resolve, REFRESH));
    }
  }
}

const KINDS = { join: "good", restart: "good", enable: "good", reload: "good", exit: "warn", leave: "warn", disable: "warn",
  slave: "warn", "put-aside": "warn", rollback: "bad", refusal: "bad", "given-up": "bad", alarm: "bad",
  unhealthy: "bad", "health-restart": "bad", healthy: "good" };

function showEvent(event) {
  const list = $("events");
  const made = element("li");
  const time = element("time", new Date(event.time).toLocaleTimeString(), "dim");
  time.dateTime = new Date(event.time).toISOString();
  time.title = new Date(event.time).toLocaleString();
  made.append(time, element("span", event.kind, KINDS[event.kind]), element("span", event.server || event.module || ""));
  made.append(element("span", event.message + (event.client ? ` (by ${event.client})` : "") + (event.count > 1 ? ` (${event.count} times)` : "")));
  if (event.lines?.length) made.append(element("pre", event.lines.join("\n")));
  made.hidden = !matches(made);
  list.prepend(made);
  while (list.childElementCount > KEPT) list.lastElementChild.remove();
  if (event.kind === "alarm") {
    write($("alarm"), event.message);
    $("alarm").hidden = event.message.startsWith("over:");
  }
}

const matches = (line) => line.textContent.toLowerCase().includes($("filter").value.trim().toLowerCase());
$("filter").addEventListener("input", () => {
  for (const line of $("events").children) line.hidden = !matches(line);
});

let saying;
function say(text) {
  write($("said"), text);
  $("said").hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => ($("said").hidden = true), 6000);
}

$("login").hidden = false;
