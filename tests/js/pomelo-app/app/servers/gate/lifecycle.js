"use strict";

module.exports.afterStartAll = (app) => console.log(`EVENT ${app.getServerId()} afterStartAll []`);
