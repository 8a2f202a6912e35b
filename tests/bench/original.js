// A master of pomelo-admin with the module `nodeInfo`, as pomelo starts it. Usage: NODE_PATH=…/node_modules node original.js PORT
"use strict";

const admin = require("pomelo-admin");

const port = Number(process.argv[2]);
const service = admin.createMasterConsole({
  port,
  // Everybody is let in, as a user of level 1.
  authUser: (_, __, accept) => accept({ level: 1 }),
  authServer: (_, __, accept) => accept("ok"),
});
service.register("nodeInfo", admin.modules.nodeInfo({ interval: 3600, delay: 3600 }));
service.start((error) => { if (error) throw error; });
