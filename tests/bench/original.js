// A master of pomelo-admin with the module `nodeInfo`, as pomelo starts it. Usage: NODE_PATH=…/node_modules node original.js PORT [fleet]
//
// With `fleet` it has pomelo's own console and watchdog as well, for monitors. Its log has warnings and errors only: what pomelo writes at `debug` for every message
// would be most of its work.
"use strict";

const admin = require("pomelo-admin");
require("log4js").setGlobalLogLevel("WARN");

const port = Number(process.argv[2]);
const service = admin.createMasterConsole({
  port,
  // Everybody is let in, as a user of level 1.
  authUser: (_, __, accept) => accept({ level: 1 }),
  authServer: (_, __, accept) => accept("ok"),
});
service.register("nodeInfo", admin.modules.nodeInfo({ interval: 3600, delay: 3600 }));
if (process.argv[3] === "fleet") {
  // What the two ask of the application: which servers are configured, and who this is.
  const app = { getServerId: () => "master", getServersFromConfig: () => ({}), startTime: Date.now() };
  for (const name of ["console", "masterwatcher"]) {
    const module = require(`pomelo/lib/modules/${name}`);
    service.register(module.moduleId, module({ app }, service));
  }
}
service.start((error) => { if (error) throw error; });
