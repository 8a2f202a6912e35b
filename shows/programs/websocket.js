// A WebSocket server that a monitor runs. It asks its clients to leave when it drains, tells them where else they can go by its own view of the
// cluster, and writes down what happens in its life. Arguments: its port, the journal's file, a number for its choices.
"use strict";

const { control } = require("../lib/control");
const { journal } = require("../lib/journal");
const { random } = require("../lib/random");
const { packages } = require("../lib/packages");

const { WebSocketServer } = packages("ws");
const [port, file, seed] = process.argv.slice(2);
const id = process.env.POMELO_SERVER_ID;
const type = process.env.POMELO_SERVER_TYPE;
const CLOSING = 300; // ms that a client has to answer its farewell

const write = journal(file, { id, pid: process.pid });
const { pick } = random(Number(seed));
const clients = new Map(); // socket → name
let view = {};
let draining = false;
let ending = false;

// The view has changed: it is written down with the process of each server.
function seen(change) {
  change();
  write("view", { pids: Object.fromEntries(Object.entries(view).map(([known, info]) => [known, info.pid])) });
}

// Another server of this type that the view names; null where there is none.
function elsewhere() {
  const others = Object.values(view).filter((info) => info.serverType === type && info.id !== id);
  if (others.length === 0) return null;
  const { id: to, port: there, pid } = pick(others);
  return { id: to, port: there, pid };
}

const say = (socket, message) => socket.send(JSON.stringify(message));

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port) });
server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.hello) {
      if (draining || ending) {
        write("turned-away", { client: message.hello });
        say(socket, { full: elsewhere() });
        return socket.close();
      }
      clients.set(socket, message.hello);
      write("came", { client: message.hello });
      say(socket, { welcome: id });
    } else if (message.where) {
      const to = elsewhere();
      write("named", { client: clients.get(socket), to });
      say(socket, { to });
    }
  });
  socket.on("close", () => {
    const client = clients.get(socket);
    if (clients.delete(socket) && !ending) write("left", { client });
  });
});
server.on("listening", () => {
  write("up");
  control({
    replaceServers: (servers) => seen(() => (view = servers)),
    addServers: (servers) => seen(() => servers.forEach((info) => (view[info.id] = info))),
    removeServers: (ids) => seen(() => ids.forEach((gone) => delete view[gone])),
    connections: () => ({ totalConnCount: clients.size, loginedCount: clients.size, loginedList: [] }),
    drain: ({ deadlineMs }) => {
      draining = true;
      write("drain", { deadlineMs, clients: clients.size });
      for (const socket of clients.keys()) say(socket, { leave: deadlineMs });
    },
    undrain: () => {
      draining = false;
      write("undrain");
    },
    stop: () => {
      ending = true;
      write("stop", { clients: clients.size });
      for (const [socket, client] of clients) {
        write("cut", { client });
        say(socket, { bye: elsewhere() });
        socket.close();
      }
      server.close(() => process.exit(0));
      setTimeout(() => process.exit(0), CLOSING);
    },
  });
});
