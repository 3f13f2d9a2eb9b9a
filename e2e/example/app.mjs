// An application with several workers on several hosts. They share a value, a limit and
// claims through the agent on their host. Run it with: PORT=8000 WORKERS=2 node app.mjs

import cluster from "node:cluster";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { text } from "node:stream/consumers";

const agent = process.env.DISC_AGENT ?? "http://127.0.0.1:3472";
const worker = process.pid;

const disc = (method, path, body) => fetch(`${agent}/v1${path}`, { method, body });

const routes = {
  // Writes the greeting, which every worker reads.
  "PUT /greeting": async (request) => {
    const answer = await disc("PUT", "/kv/app/greeting", await text(request));
    return [answer.status, { worker, revision: Number(answer.headers.get("Disc-Revision")) }];
  },
  "GET /greeting": async (_, query) => {
    const answer = await disc("GET", `/kv/app/greeting?min_rev=${query.get("min_rev") ?? 0}`);
    return [answer.status, { worker, value: await answer.text() }];
  },
  // Sends a message. The limit applies to all workers together.
  "POST /send": async () => {
    const answer = await disc("POST", "/limits/sms/take");
    return [answer.status, { worker }];
  },
  // Claims an idle GPU, which no other worker uses until it is released.
  "POST /work": async (_, query) => {
    const answer = await disc("POST", "/claims/gpu?wait=30s");
    const { claim, endpoint, fence } = await answer.json();
    const begin = Number(process.hrtime.bigint()) / 1e9;
    await sleep(1000 * (query.get("seconds") ?? 0));
    const end = Number(process.hrtime.bigint()) / 1e9;
    await disc("DELETE", `/claims/${claim}`);
    return [answer.ok ? 200 : answer.status, { worker, gpu: endpoint?.id, fence, begin, end }];
  },
};

if (cluster.isPrimary) {
  for (let n = 0; n < Number(process.env.WORKERS ?? 1); n++) cluster.fork();
} else {
  http.createServer(async (request, response) => {
    const url = new URL(request.url, "http://localhost");
    const route = routes[`${request.method} ${url.pathname}`];
    const [status, body] = route ? await route(request, url.searchParams) : [404, {}];
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  }).listen(Number(process.env.PORT), "127.0.0.1");
}
