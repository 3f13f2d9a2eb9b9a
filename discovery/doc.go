// Package discovery is the vocabulary of disc: instances and their checks, the names
// under which they are looked up, the keys under which etcd stores them, and the errors
// that callers tell apart.
//
// The package is pure: it opens no file and no connection, starts no goroutine and reads
// no clock.
//
// # Words
//
// A namespace is one fleet inside one etcd. A service is a name to look up; an [Instance]
// is one running copy of it, at an address and one or more ports. An agent registers
// instances under an etcd lease: it writes a record for each. An operator's lasting edit
// of an instance is an [Override], stored apart from the record and merged on reading; an
// instance that an operator enters by hand, without an agent, is a static entry. A
// [Scope] is a part of a namespace that can be watched by itself. A [Cursor] is a
// position in the stream of changes.
//
// # From records to answers
//
// Package view merges the records of a namespace into an immutable Snapshot of entries,
// and package lookup answers a Query from it. All protocols (HTTP, DNS, Envoy, gRPC)
// answer by these two, so they agree:
//
//	snapshot, events, broken := view.EmptySnapshot().Apply(revision, changes)
//	answer, err := lookup.Lookup(snapshot, lookup.Query{Name: "web"})
//
// # Packages
//
// Those that talk to etcd:
//
//   - etcd: the client, and the meaning of etcd's errors
//   - reflector: lists and watches ranges of keys into a store
//   - catalog: the snapshot of a namespace, kept current by a reflector
//   - lease: the session under which an agent writes
//   - registry: registers an agent's instances, and repairs their records
//   - entry: edits overrides and static entries
//   - lock: locks, and the grants that claims are built on too
//   - claim: claims on instances
//   - limit: fleet-wide rate limits
//   - kv: users' own keys
//   - devetcd: an embedded etcd, for development and tests
//
// Those that need no etcd: resolver lets gRPC clients dial services by name, retry spaces
// attempts, heartbeat shows whether a loop is stuck, and telemetry registers metrics.
package discovery
