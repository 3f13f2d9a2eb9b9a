// Package envoy tells Envoy where the instances of services are, as its endpoint
// discovery service does (EDS, API version 3): in JSON for a REST subscription, and as
// gRPC streams, aggregated (ADS) or not, of the state of the world or incremental.
//
//	s, err := envoy.New(catalog, envoy.Options{Domain: "disc."})
//	err = s.Serve(ctx, listener)
//
// # Clusters
//
// The name of a cluster is a lookup name as every protocol takes it: web, v2.web,
// _grpc._tcp.web.svc. A name that nothing is known of has no endpoints, rather than no
// answer, for which Envoy would hold the whole cluster back. Who asks for no names, or
// for "*", gets all services.
//
// # Endpoints
//
// Envoy gets all instances that are not down, and decides itself; its health statuses
// say what a lookup does with them:
//
//	passing            HEALTHY
//	warning, suspect   DEGRADED    used when the healthy ones are too few
//	critical           UNHEALTHY
//	drain              DRAINING    no new requests; those under way go on
//
// The zone is the locality's, whose weight is the sum of its endpoints'. Instances of
// weight 0 are left out while another could answer; with nobody else they have weight
// 1, the least that Envoy knows. Left out is also what EDS cannot say: an instance
// without a port, or at a host name, for which Envoy would refuse the whole update.
//
// # Versions
//
// A version is the newest revision of the services asked for, and a fingerprint of
// which they are: "42-5d41402abc4b2a76". As long as it stays, nothing is sent.
//
// # The wire
//
// Requests and responses are read and written here, field by field, since the types
// that are generated for them bring the descriptions of half of Envoy with them: some
// 2 MiB of the memory of every agent, used or not. The tests speak with Envoy's own
// types.
package envoy
