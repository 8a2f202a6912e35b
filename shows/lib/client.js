// A user of the WebSocket servers. One that is asked to leave asks its server where to go, goes there, and then leaves; one that is stubborn stays
// until it is cut. Whoever is cut goes where the farewell says.
"use strict";

const { setTimeout: sleep } = require("node:timers/promises");

const { packages } = require("./packages");

const WebSocket = packages("ws");
const AGAIN = 100; // ms before somebody who got in nowhere tries again

class Client {
  // `ports` are those of all servers of its type, `patience` gives the milliseconds for which it stays after it was asked to leave, `lost` is called
  // where a connection ends without a word.
  constructor(name, { ports, stubborn, patience, lost }) {
    Object.assign(this, { name, ports, stubborn, patience, lost });
    this.socket = null;
    this.at = null; // the server
    this.moves = 0; // it left by itself
    this.cuts = 0;
    this.turnedAway = 0;
    this.longest = 0; // ms without a server
    this.over = false;
  }

  // Comes to a server, the first time.
  async come(port) {
    while (!this.over && !(await this.enter(port))) await sleep(AGAIN);
  }

  // Connects to a server; whether it was let in.
  enter(port) {
    return new Promise((resolve) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
      let bye; // absent, until the server says farewell
      socket.on("error", () => {});
      socket.on("open", () => socket.send(JSON.stringify({ hello: this.name })));
      socket.on("message", (text) => {
        const message = JSON.parse(text);
        if (message.welcome) {
          const before = this.socket;
          [this.socket, this.at] = [socket, message.welcome];
          if (before && before.readyState === WebSocket.OPEN) {
            this.moves += 1;
            before.close();
          }
          resolve(true);
        } else if (message.full !== undefined) this.turnedAway += 1;
        else if (message.leave !== undefined && !this.stubborn) setTimeout(() => this.ask(socket), this.patience(message.leave));
        else if (message.to !== undefined) this.move(socket, message.to);
        else if (message.bye !== undefined) bye = message.bye;
      });
      socket.on("close", () => {
        resolve(false);
        if (this.over || this.socket !== socket) return;
        this.socket = this.at = null;
        if (bye === undefined) this.lost(this);
        this.cuts += 1;
        this.again(bye?.port);
      });
    });
  }

  // Asks where to go, if it is still there.
  ask(socket) {
    if (socket === this.socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ where: true }));
  }

  async move(socket, to) {
    if (socket !== this.socket) return;
    if (to === null || !(await this.enter(to.port))) setTimeout(() => this.ask(socket), AGAIN);
  }

  // Was cut: goes where it was told, or to any other.
  async again(told) {
    const begun = Date.now();
    for (let turn = 0; !this.over; turn += 1) {
      const port = turn === 0 && told ? told : this.ports[turn % this.ports.length];
      if (await this.enter(port)) break;
      await sleep(AGAIN);
    }
    this.longest = Math.max(this.longest, Date.now() - begun);
  }

  leave() {
    this.over = true;
    this.socket?.close();
  }
}

module.exports = { Client };
