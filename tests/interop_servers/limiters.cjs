// Limiters from npm, each in its usual settings: node limiters.cjs KIND PORT LIMIT WINDOW_SECONDS
const [kind, port, limit, seconds] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const windowMs = seconds * 1000;
const done = (request, response) => response.json({ ok: true });

const express = (middleware) => {
  const app = require("express")();
  app.use(middleware);
  app.use(done);
  app.listen(port, "127.0.0.1");
};

const servers = {
  "express-rate-limit, draft 8": () =>
    express(require("express-rate-limit").rateLimit({ windowMs, limit, standardHeaders: "draft-8", legacyHeaders: false })),
  "express-rate-limit, legacy": () =>
    express(require("express-rate-limit").rateLimit({ windowMs, limit, standardHeaders: false, legacyHeaders: true })),
  "rate-limiter-flexible": () => {
    const limiter = new (require("rate-limiter-flexible").RateLimiterMemory)({ points: limit, duration: seconds });
    // As its README says.
    const tell = (response, result) =>
      response.set({
        "Retry-After": Math.ceil(result.msBeforeNext / 1000),
        "X-RateLimit-Limit": limit,
        "X-RateLimit-Remaining": result.remainingPoints,
        "X-RateLimit-Reset": Math.ceil((Date.now() + result.msBeforeNext) / 1000),
      });
    express((request, response, next) =>
      limiter.consume("key").then(
        (result) => { tell(response, result); next(); },
        (result) => { tell(response, result); response.status(429).end(); },
      ));
  },
  "@fastify/rate-limit": async () => {
    const app = require("fastify")();
    await app.register(require("@fastify/rate-limit"), { max: limit, timeWindow: windowMs });
    app.all("/*", async () => ({ ok: true }));
    await app.listen({ port, host: "127.0.0.1" });
  },
  "hono-rate-limiter": async () => {
    const { Hono } = require("hono");
    const { serve } = require("@hono/node-server");
    const { rateLimiter } = require("hono-rate-limiter");
    const app = new Hono();
    app.use(rateLimiter({ windowMs, limit, standardHeaders: "draft-6", keyGenerator: () => "key" }));
    app.all("/*", (context) => context.json({ ok: true }));
    serve({ fetch: app.fetch, port, hostname: "127.0.0.1" });
  },
  "koa-ratelimit": () => {
    const app = new (require("koa"))();
    app.use(require("koa-ratelimit")({ driver: "memory", db: new Map(), duration: windowMs, max: limit, id: () => "key" }));
    app.use((context) => { context.body = { ok: true }; });
    app.listen(port, "127.0.0.1");
  },
  "@nestjs/throttler": async () => {
    require("reflect-metadata");
    const { All, Controller, Module } = require("@nestjs/common");
    const { APP_GUARD, NestFactory } = require("@nestjs/core");
    const { ThrottlerGuard, ThrottlerModule } = require("@nestjs/throttler");
    class Root { done() { return { ok: true }; } }
    All("*path")(Root.prototype, "done", Object.getOwnPropertyDescriptor(Root.prototype, "done"));
    Controller()(Root);
    class App {}
    Module({
      imports: [ThrottlerModule.forRoot([{ ttl: windowMs, limit }])],
      controllers: [Root],
      providers: [{ provide: APP_GUARD, useClass: ThrottlerGuard }],
    })(App);
    await (await NestFactory.create(App, { logger: false })).listen(port, "127.0.0.1");
  },
};

servers[kind]();
