// An application with several workers on several hosts. They share a value, a limit and
// claims through the agent on their host. Run it with: PORT=8000 WORKERS=2 node app.mjs

import cluster from "node:cluster";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import os from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { text } from "node:stream/consumers";

const agent = process.env.DISC_AGENT ?? "http://127.0.0.1:3472";
const port = Number(process.env.PORT ?? 8000);
const worker = process.pid;
const ttl = 5; // seconds within which a claim is renewed
const working = new Set(); // has an AbortController for each request
const now = () => Number(process.hrtime.bigint()) / 1e9;

// Refused is an answer of the agent other than the one that was asked for.
class Refused extends Error {
  constructor(answer, detail) {
    super(detail);
    this.status = answer.status;
    this.retryAfter = answer.headers.get("Retry-After");
  }
}

// Lost: the claim is lost, and somebody else may have the GPU.
class Lost extends Error {}

async function disc(method, path, { body, headers, signal } = {}) {
  const answer = await fetch(`${agent}/v1${path}`, { method, body, headers, signal });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Refused(answer, problem.detail ?? answer.statusText);
  }
  return answer;
}

const routes = {
  "GET /healthz": async () => ({}),
  // Writes the greeting, which every worker reads.
  "PUT /greeting": async (request) => {
    const answer = await disc("PUT", "/kv/app/greeting", { body: await text(request) });
    return { revision: Number(answer.headers.get("Disc-Revision")) };
  },
  "GET /greeting": async (_, query) => {
    const answer = await disc("GET", `/kv/app/greeting?min_rev=${query.get("min_rev") ?? 0}`);
    return { value: await answer.text() };
  },
  // Sends a message. The limit applies to all workers together.
  "POST /send": async () => {
    await disc("POST", "/limits/sms/take");
    return {};
  },
  // Uses an idle GPU, which no other worker uses meanwhile. It stops when the caller leaves, or this
  // process is told to end. The claim is renewed while it works, and released, whatever happens.
  "POST /work": async (_, query, left) => {
    const claim = await claimGPU(left);
    const stopping = new AbortController();
    left.addEventListener("abort", () => stopping.abort());
    let renewing;
    try {
      left.throwIfAborted();
      const valid = await renewOnce(claim, ttl); // the wait may have taken most of its time
      renewing = renew(claim, valid, stopping.signal);
      return await Promise.race([renewing, compute(claim, Number(query.get("seconds") ?? 0), stopping.signal)]);
    } finally {
      stopping.abort();
      await renewing?.catch(() => {});
      const limit = AbortSignal.timeout(1000 * ttl);
      await disc("DELETE", `/claims/${claim.claim}`, { signal: limit }).catch(() => {}); // it was lost before, or ends with its TTL
    }
  },
};

// claimGPU waits for an idle GPU. Once the agent has granted the claim, its answer is read even if the
// caller has left: without the id the claim cannot be released.
async function claimGPU(left) {
  left.throwIfAborted();
  const asking = new AbortController();
  const leave = () => asking.abort();
  left.addEventListener("abort", leave);
  try {
    const answer = await disc("POST", "/claims/gpu?wait=30s", { body: JSON.stringify({ ttl: `${ttl}s` }), signal: asking.signal });
    left.removeEventListener("abort", leave);
    return await answer.json();
  } finally {
    left.removeEventListener("abort", leave);
  }
}

// renew renews a claim until it is lost, or stopped. It is valid until then.
async function renew(claim, valid, stopped) {
  for (;;) {
    await sleep(1000 * Math.min(ttl / 3, Math.max(0, valid - now())), null, { signal: stopped });
    const left = valid - now();
    if (left <= 0) throw new Lost("the claim could not be renewed in time");
    try {
      valid = await renewOnce(claim, Math.min(ttl / 3, left));
    } catch (error) {
      if (error instanceof Lost) throw error;
      // else the agent is away: it may be back in time
    }
  }
}

// renewOnce renews a claim, and returns until when it is valid.
async function renewOnce(claim, limit) {
  const sent = now();
  try {
    const answer = await disc("PUT", `/claims/${claim.claim}`, { signal: AbortSignal.timeout(Math.ceil(1000 * limit)) });
    return sent + seconds((await answer.json()).valid_for);
  } catch (error) {
    throw [404, 410].includes(error.status) ? new Lost(error.message) : error;
  }
}

// seconds returns the seconds of a duration of Go, such as 1m4.5s.
function seconds(text) {
  const units = { h: 3600, m: 60, s: 1, ms: 1e-3, µs: 1e-6, ns: 1e-9 };
  return [...text.matchAll(/([0-9.]+)(ms|µs|ns|h|m|s)/g)].reduce((sum, [, n, unit]) => sum + n * units[unit], 0);
}

async function compute(claim, seconds, stopped) {
  const begin = now();
  await sleep(1000 * seconds, null, { signal: stopped });
  const end = now();
  await record(claim);
  return { gpu: claim.endpoint.id, fence: claim.fence, begin, end };
}

// record writes the result, unless a later claim of the same slot has written one: whoever was
// suspended for longer than its claim lasted does not know that it has lost it. The fence tells.
async function record(claim) {
  const path = `/kv/app/results/${claim.endpoint.id}/${claim.slot}`;
  for (;;) {
    let headers = { "If-None-Match": "*" };
    try {
      const before = await disc("GET", `${path}?consistency=linearizable`);
      headers = { "If-Match": before.headers.get("ETag") };
      if ((await before.json()).fence > claim.fence) throw new Lost("a later claim has written its result");
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    try {
      await disc("PUT", path, { body: JSON.stringify({ fence: claim.fence, worker }), headers });
      return;
    } catch (error) {
      if (error.status !== 412) throw error; // 412: somebody wrote in between
    }
  }
}

// respond passes on that a limit is used up. Whatever else the agent refuses is no fault of the caller.
function respond(response, error, body) {
  const status = !error ? 200 : error instanceof Lost ? 409 : error.status === 429 ? 429 : 503;
  const again = error?.retryAfter ? { "Retry-After": error.retryAfter } : {};
  response.writeHead(status, { "Content-Type": "application/json", ...again });
  response.end(JSON.stringify(error ? { detail: error.message } : { worker, ...body }));
}

function serve() {
  http.createServer(async (request, response) => {
    const url = new URL(request.url, "http://localhost");
    const route = routes[`${request.method} ${url.pathname}`];
    if (!route) return response.writeHead(404).end();
    const left = new AbortController();
    working.add(left);
    response.on("close", () => {
      working.delete(left);
      left.abort();
    });
    try {
      respond(response, null, await route(request, url.searchParams, left.signal));
    } catch (error) {
      respond(response, error);
    }
  }).listen(port, "127.0.0.1");
  process.on("SIGINT", () => {}); // a terminal sends it to all processes: the first one passes it on
  process.once("SIGTERM", () => {
    cluster.worker.disconnect(); // no new request comes in; it waits for those that are open
    working.forEach((left) => left.abort());
  });
}

const instance = `${agent}/v1/services/app/instances/${os.hostname()}-${port}`;
const holder = { "Disc-Holder": `app:${process.pid}:${randomUUID()}` }; // only this process may deregister what it holds

// register keeps the application registered until it ends, or somebody deregisters it by force.
async function register(stopping) {
  while (!stopping.aborted) {
    try {
      const by = await hold(stopping);
      if (by) return console.log("not registered any more:", by);
    } catch {
      // the agent is away, or has another such application
    }
    await sleep(1000, null, { signal: stopping }).catch(() => {});
  }
}

// hold registers the application for as long as the request is open. It returns who deregistered the
// application by force: that is the trailer, which fetch does not show.
function hold(stopping) {
  const check = { type: "http", url: `http://127.0.0.1:${port}/healthz`, interval: "2s" };
  return new Promise((resolve, reject) => {
    const request = http.request(`${instance}?hold`, { method: "PUT", headers: holder, timeout: 60_000 }, (held) => {
      if (stopping.aborted) deregister();
      held.on("end", () => resolve(held.trailers["disc-lost"])).on("error", reject);
      held.resume(); // the agent sends something every 15 s
    });
    request.on("timeout", () => request.destroy(new Error("the agent is silent")));
    request.on("error", reject);
    request.end(JSON.stringify({ port, checks: [check] }));
  });
}

// deregister waits at most 5 s. What is still registered then ends 10 s after this process.
async function deregister() {
  await fetch(instance, { method: "DELETE", headers: holder, signal: AbortSignal.timeout(5000) }).catch(() => {});
}

// main runs the workers and keeps them registered. At the end it deregisters them first, while they
// still serve, and then has 10 s for them.
async function main() {
  const workers = Array.from({ length: Number(process.env.WORKERS ?? 1) }, () => cluster.fork());
  const ended = Promise.all(workers.map((worker) => once(worker, "exit")));
  const stopping = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => stopping.abort());
  const registering = register(stopping.signal);
  if (!stopping.signal.aborted) await once(stopping.signal, "abort");
  await deregister();
  await Promise.race([registering, sleep(5000)]);
  for (const worker of workers) worker.process.kill("SIGTERM");
  await Promise.race([ended, sleep(10_000)]);
  for (const worker of workers) worker.process.kill("SIGKILL");
  process.exit();
}

if (cluster.isPrimary) {
  main();
} else {
  serve();
}
