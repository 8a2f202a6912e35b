"use strict";

module.exports = (app) => ({
  add(user, connector, done) {
    const channel = app.get("channelService").getChannel("room", true);
    channel.add(user, connector);
    done(null, channel.getMembers());
  },
});
