// Package registry keeps an agent's instances registered in etcd.
//
// A [Registry] has a desired set of instances and reconciles etcd with it: at each change
// of the set, under each new lease of the session, whenever the catalog shows that
// somebody removed or altered a record, and at a slow, periodic resync. It retries for
// ever.
//
//	r, err := registry.New(client, keys, session, catalog, registry.Identity{Owner: owner, RunID: run}, registry.Options{})
//	go r.Run(ctx)
//	r.Put(instance)
//	state, err := r.AwaitSettled(ctx, "web", "web-1") // written, or in conflict
//	r.Remove("web", "web-1")                          // writes a tombstone
//
// A reconciliation looks at the instances that need something by now, and compares those with the
// catalog that have changed there or here. So a change in a service of which the agent registers no
// instance costs the same however many it registers. To find what has changed in a service of its own,
// it walks over that service's instances in the catalog, but compares only the changed ones.
//
// # Refusals
//
// A record that etcd refuses, since a permission is missing or it is too large, holds up no
// allowed one for long: its batch is halved until it is alone. It then has a next attempt, up to 26 s later, by
// a jittered backoff of its own. When several in a row are refused, the rest of their service
// waits for that attempt, too, and so do other services of which records were refused before. A
// service without a refusal waits 0.2 s at a time, for the 4 to 12 services that are tried before
// it. What was refused least comes first. So an agent without permission costs etcd a few proposals an attempt,
// however many instances it has.
// A record that others change as fast as it is written goes by the same times.
//
// # Tombstones
//
// The record of an instance that is removed becomes a tombstone: the same record, marked
// as leaving, under a lease of its own that expires a minute later. A reader that lists
// etcd meanwhile can tell a departure from a death.
//
// # Load
//
// A load report of [Registry.ReportLoad] is written beside the instance's record, under the
// same lease: when it differs by 10 points or more from the one in etcd, and at most once
// in 5 s. It is removed when it was not repeated for 30 s, so that readers need no clock to
// tell whether a report is current. A report that etcd refuses holds up no other, and its instance
// leaves as any other.
//
// # Ownership
//
// A record names its owner, an id that the agent keeps on disk, and the run that wrote it.
// The registry takes over a record of the same owner: it overwrites the record, keeps its
// status, and causes no delete event. It leaves a live record of another owner alone: the
// instance is in conflict until that record goes away. If another run of the same owner
// rewrites the record twice within a TTL, the data directory was copied; that is a
// conflict, too.
package registry
