// Uses an agent through the types that openapi-typescript makes of openapi.json, with
// openapi-fetch:
//
//	node check.js http://127.0.0.1:3472
import createClient from "openapi-fetch";
import type { components, paths } from "./openapi.js";

declare const process: { argv: string[] };

const client = createClient<paths>({
  baseUrl: process.argv[2],
  querySerializer: { object: { style: "form", explode: true } }, // of meta.*, which openapi-fetch does not know
});

function want(what: string, got: unknown, wanted: unknown) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(wanted)}`);
  }
}

// It is a compile-time error when one of these is not of the type that it has here.
type Answer = components["schemas"]["Answer"]; // and not the text of ?format=text
const status: components["schemas"]["Status"] = "passing";
const registration: components["schemas"]["Registration"] = {
  address: "10.0.0.8", port: 8080, tags: ["v2"], meta: { team: "core" },
};

const instance = { path: { service: "typed", id: "typed-1" } };
const registered = await client.PUT("/v1/services/{service}/instances/{id}", { params: instance, body: registration });
want("registered", [registered.response.status, registered.data?.port], [201, 8080]);

const index = Number(registered.response.headers.get("Disc-Revision"));
want("a revision", index > 0, true);

const found = await client.GET("/v1/lookup/{name}", {
  params: { path: { name: "typed" }, query: { tag: ["v2"], "meta.*": { "meta.team": "core" }, status } },
});
want("found", (found.data as Answer).endpoints.map((e) => `${e.address}:${e.port}`), ["10.0.0.8:8080"]);

const others = await client.GET("/v1/lookup/{name}", {
  params: { path: { name: "typed" }, query: { "meta.*": { "meta.team": "other" } } },
});
want("found of another team", (others.data as Answer).endpoints, []);

const patched = await client.PATCH("/v1/services/{service}/instances/{id}/override", { params: instance, body: { weight: 3 } });
want("patched", patched.data, { weight: 3 });
const cleared = await client.PATCH("/v1/services/{service}/instances/{id}/override", { params: instance, body: { weight: null } });
want("cleared", cleared.data, {});

const key = { path: { key: "typed/primary" } };
const put = await client.PUT("/v1/kv/{key}", { params: key, body: "10.0.0.5:5432", bodySerializer: (body) => body });
want("put", put.response.status, 200);
const value = await client.GET("/v1/kv/{key}", { params: key, parseAs: "text" });
want("value", value.data, "10.0.0.5:5432");

const unknown = await client.GET("/v1/lookup/{name}", { params: { path: { name: "nothing" } } });
want("the problem", unknown.error?.status, 404);

const removed = await client.DELETE("/v1/services/{service}/instances/{id}", { params: instance });
want("removed", removed.response.status, 200);
console.log("ok: types of openapi-typescript");
