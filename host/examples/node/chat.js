// A chat server in Node that talks with its monitor over the control socket; it needs nothing but Node. docs/control-socket.md says what
// goes over the socket. In servers.json:
//
//     {"chat": [{"id": "chat-1", "port": 6050, "command": "node chat.js ${port}", "ready": "control"}]}
//
// Users connect to the port and say lines: "login NAME" first, then what everybody else in the room is told.
"use strict";

const net = require("net");

const users = new Map(); // socket → {uid, loginTime, address}
const settings = { greeting: "welcome" };
const blocked = new net.BlockList();
let members = {};
let draining = false;

// What this server offers: functions by name. What one throws is the failure that the caller sees.
const functions = {
  addServers: (servers) => servers.forEach((info) => (members[info.id] = info)),
  removeServers: (ids) => ids.forEach((id) => delete members[id]),
  replaceServers: (servers) => { members = servers; },
  startOver: () => console.log(`all ${Object.keys(members).length} servers have started`),
  drain: ({ deadlineMs }) => {
    console.log(`draining within ${deadlineMs} ms`);
    draining = true; // those who are here may stay
  },
  undrain: () => { draining = false; },
  stop: ({ deadlineMs }) => {
    console.log(`ending within ${deadlineMs} ms`);
    for (const socket of users.keys()) socket.end("the server is closing\n");
    server.close();
    setTimeout(() => process.exit(0), 50); // once the answer is out
  },
  connections: () => {
    const loginedList = [...users.values()].filter((user) => user.uid);
    return { totalConnCount: users.size, loginedCount: loginedList.length, loginedList };
  },
  settings: () => settings,
  get: ({ key }) => {
    if (!Object.hasOwn(settings, key)) throw failure("not-found", `there is no setting ${key}`);
    return settings[key];
  },
  set: ({ key, value }) => { settings[key] = value; },
  enable: ({ key }) => { settings[key] = true; },
  disable: ({ key }) => { settings[key] = false; },
  blacklist: (patterns) => patterns.forEach(block),
  status: () => ({ users: users.size, members: Object.keys(members).length }),
  // An action for crons: `addCron id=1 'time=0 0 * * * *' action=chatCron.send serverId=chat-1`
  "chatCron.send": (cron) => {
    console.log(`cron ${cron.id} is due`);
    for (const socket of users.keys()) socket.write(`${cron.text || "the hour has come"}\n`);
  },
};

function failure(code, message) {
  return Object.assign(new Error(message), { code });
}

// An address, a network such as 10.0.0.0/8, or an IPv4 address with stars, which have to be at its end here: 10.0.*.*.
function block(pattern) {
  const parts = pattern.split(".");
  const stars = parts.filter((part) => part === "*").length;
  if (parts.slice(0, parts.length - stars).includes("*")) throw failure("bad-message", `${pattern}: stars are at the end`);
  const [address, prefix] = stars ? [parts.join(".").replaceAll("*", "0"), 32 - 8 * stars] : pattern.split("/");
  const family = net.isIPv6(address) ? "ipv6" : "ipv4";
  if (prefix === undefined) blocked.addAddress(address, family);
  else blocked.addSubnet(address, Number(prefix), family);
}

const server = net.createServer((socket) => {
  const family = net.isIPv6(socket.remoteAddress || "") ? "ipv6" : "ipv4";
  if (draining || blocked.check(socket.remoteAddress, family)) return socket.destroy();
  const user = { uid: null, loginTime: null, address: `${socket.remoteAddress}:${socket.remotePort}` };
  users.set(socket, user);
  socket.on("close", () => users.delete(socket));
  socket.on("error", () => {});
  lines(socket, (line) => {
    if (line.startsWith("login ")) {
      user.uid = line.slice(6);
      user.loginTime = Date.now();
      return socket.write(`${settings.greeting}, ${user.uid}\n`);
    }
    for (const other of users.keys()) if (other !== socket) other.write(`${user.uid || "somebody"}: ${line}\n`);
  });
});

server.listen(Number(process.argv[2] || 0), "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
  if (process.env.POMELO_CONTROL) control(process.env.POMELO_CONTROL);
});

// Talks with the monitor. The server is listening, so it is ready.
function control(path) {
  const socket = net.connect(path);
  const say = (message) => socket.write(JSON.stringify(message) + "\n");
  say({ hello: { offers: Object.keys(functions), info: { users: "many" }, ready: true } });
  lines(socket, async (line) => {
    const message = JSON.parse(line);
    if (message.call === undefined) {
      if (message.error) console.log(`the monitor says: ${message.error.message}`);
      return;
    }
    try {
      const result = await functions[message.call](message.args);
      say({ id: message.id, result: result === undefined ? null : result });
    } catch (error) {
      say({ id: message.id, error: { code: error.code || "failed", message: error.message } });
    }
  });
  socket.on("error", (error) => console.log(`the control socket: ${error.message}`));
}

// Calls back with each line of a stream. A peer that never ends its line is cut off.
function lines(stream, told) {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk) => {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    if (rest.length > 16 << 20) return stream.destroy();
    for (const line of parts) if (line.trim()) told(line.trim());
  });
}
