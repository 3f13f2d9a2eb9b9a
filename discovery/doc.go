// Package discovery is the vocabulary of disc: what an instance is, how it is
// named and kept in etcd, how the records of a fleet become one immutable
// [Snapshot], and how a [Query] becomes an [Answer].
//
// The package is pure. It opens no file and no connection, starts no goroutine
// and, but for the waiting of a [Backoff], reads no clock. All protocols
// (HTTP, DNS and those that follow) answer from [Lookup], so they agree.
//
// # Words
//
// A namespace is one fleet inside one etcd. A [Service] is a name that is looked
// up; an [Instance] is one running copy of it, at an address and one or more
// ports. An agent registers instances under an etcd lease, as records. An
// operator's lasting edit of an instance is an [Override], kept apart from the
// record and merged on reading; an instance that no agent stands behind is a
// static entry. An [Entry] is what results: the instance as it is shown. An
// [Endpoint] is an entry as an answer to a lookup.
//
// # From records to answers
//
//	snapshot := discovery.EmptySnapshot()
//	snapshot, events, broken := snapshot.Apply(revision, changes)
//	answer, err := discovery.Lookup(snapshot, discovery.Query{Name: "web"})
package discovery
