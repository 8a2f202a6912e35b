// A small chat application of pomelo 2.x, unmodified pomelo underneath: a gate, connectors, chat servers.
"use strict";

const pomelo = require("pomelo");

const app = pomelo.createApp();
app.set("name", "chat");
app.configure("production|development", "gate|connector", () => {
  app.set("connectorConfig", { connector: pomelo.connectors.hybridconnector, heartbeat: 30 });
});
app.configure("production|development", () => {
  // One room, one chat server: the last number of the room's name chooses.
  app.route("chat", (session, msg, context, next) => {
    const servers = app.getServersByType("chat") || [];
    const wanted = servers.find((server) => server.id === session.get("chat"));
    next(wanted ? null : new Error("no such chat server"), wanted && wanted.id);
  });
});

// What the tests read in a server's output.
const say = (event, what) => console.log(`EVENT ${app.getServerId()} ${event} ${JSON.stringify(what)}`);
app.event.on(pomelo.events.ADD_SERVERS, (servers) => say("add", servers.map((server) => server.id)));
app.event.on(pomelo.events.REMOVE_SERVERS, (ids) => say("remove", ids));
app.event.on(pomelo.events.REPLACE_SERVERS, (servers) => say("replace", servers.map((server) => server.id)));
app.event.on(pomelo.events.ADD_CRONS, (crons) => say("crons", crons.map((cron) => cron.time)));
app.event.on(pomelo.events.START_ALL, () => say("start_all", []));
app.start((error) => say("started", error ? String(error) : []));
// Breaks the connection to the master, as a network does.
process.on("SIGUSR2", () => app.components.__monitor__.monitor.monitorConsole.agent.socket.socket.stream.destroy());
process.on("uncaughtException", (error) => say("uncaught", error.stack));
