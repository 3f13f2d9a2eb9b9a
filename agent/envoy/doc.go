// Package envoy is a control plane for Envoy: an endpoint discovery service (EDS, API version
// 3) and a rate limit service. EDS answers REST subscriptions in JSON, and gRPC streams,
// aggregated (ADS) or not, in the state-of-the-world and in the incremental variant.
//
//	s, err := envoy.New(catalog, envoy.Options{Domain: "disc."})
//	err = s.Serve(ctx, listener)
//
// # Clusters
//
// The name of a cluster is a lookup name, as in every protocol of the agent: web, v2.web,
// _grpc._tcp.web.svc. An unknown name gets an answer without endpoints: without an answer,
// Envoy would hold the whole cluster back. A client that names no cluster, or "*", gets all
// services.
//
// # Endpoints
//
// Envoy gets all instances that are not down, and chooses among them. Their health status
// says what a lookup does with them:
//
//	passing            HEALTHY
//	warning, suspect   DEGRADED    used when the healthy ones are too few
//	critical           UNHEALTHY
//	drain              DRAINING    no new requests; requests in progress finish
//
// The zone is the locality; the locality's weight is the sum of its endpoints' weights. An
// instance of weight 0 is left out while another could answer; otherwise it has weight 1,
// Envoy's least. An instance without a port or at a host name is left out as well: EDS cannot
// express it, and Envoy would refuse the whole update.
//
// # Versions
//
// A version is the newest revision of the services asked for and a hash of their names and
// indexes: "42-5d41402abc4b2a76". While it stays the same, nothing is sent.
//
// # The wire
//
// Requests and responses are encoded and decoded here, field by field: the generated types
// bring the descriptors of half of Envoy with them, some 2 MiB of memory in every agent, used
// or not. The tests use Envoy's own types.
package envoy
