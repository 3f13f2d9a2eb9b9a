// Package lookup answers a [Query] from a snapshot of package view. All protocols (HTTP,
// DNS, Envoy, gRPC) answer by it, so they agree.
//
//	answer, err := lookup.Lookup(snapshot, lookup.Query{Name: "web", Pick: 1})
//
// A lookup resolves the name, selects entries by [Selector] and status, shuffles them by
// weight, the preferred zone first, and picks the less loaded ones if the query asks for a
// number of endpoints. The package is pure: its answer depends only on the snapshot, the
// query and the query's source of randomness.
package lookup
