"use strict";

module.exports = (app) => ({
  send(msg, session, next) {
    const channel = app.get("channelService").getChannel("room", true);
    channel.pushMessage("onChat", { from: session.uid, text: msg.text, by: app.getServerId() });
    next(null, { code: 200 });
  },
});
