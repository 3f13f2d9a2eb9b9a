// Package registry keeps a set of instances true in etcd.
//
// A [Registry] is told what is wanted and makes etcd equal to it: at each change of
// the wanted set, under each new lease of the session, whenever the catalog shows
// that somebody removed or altered a record, and on a slow sweep. It never gives up.
//
//	r, err := registry.New(client, keys, session, catalog, registry.Identity{Owner: owner, Run: run}, registry.Options{})
//	go r.Run(ctx)
//	r.Put(instance)
//	state, err := r.Settled(ctx, "web", "web-1") // written, or in conflict
//	r.Remove("web", "web-1")                     // says goodbye
//
// # Load
//
// What [Registry.ReportLoad] says of an instance's load is written beside its record, under
// the same lease: when it has changed by 10 points or more, and at most once in 5 s. It
// is removed when it has not been said for 30 s, so that readers need no clock to tell
// whether what they see still holds.
//
// # Ownership
//
// A record names its owner, an id that the agent keeps on disk, and the run that
// wrote it. A record of the same owner is taken over by writing over it, with the
// status it had and without a delete event. A live record of another owner is left
// alone: the instance is in conflict until that key goes away. The same owner with
// another run that rewrites the record twice within a TTL is a copied data directory,
// and a conflict too.
package registry
