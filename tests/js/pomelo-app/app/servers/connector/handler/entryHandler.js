"use strict";

module.exports = (app) => ({
  enter(msg, session, next) {
    session.bind(msg.user);
    session.set("chat", msg.chat);
    session.pushAll(() => {
      app.rpc.chat.chatRemote.add(session, msg.user, app.getServerId(), (error, users) => {
        next(null, error ? { code: 500, error: String(error) } : { code: 200, users });
      });
    });
  },
});
