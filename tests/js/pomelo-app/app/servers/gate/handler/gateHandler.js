"use strict";

module.exports = (app) => ({
  // Which connector a user is to use.
  queryEntry(msg, session, next) {
    const connectors = app.getServersByType("connector") || [];
    const chosen = connectors.sort((a, b) => (a.id < b.id ? -1 : 1))[Number(msg.nth) % connectors.length];
    next(null, chosen ? { code: 200, id: chosen.id, host: chosen.host, port: chosen.clientPort } : { code: 500 });
  },
});
