// Package follow keeps a mirror of ranges of etcd's keys equal to what etcd holds: list
// at one revision, watch from the next, for ever.
//
// What the mirror is made of is its own matter; a [Reflector] tells it what happens, in
// order and one call at a time, out of [Reflector.Run]:
//
//	f := follow.New(client, mirror, follow.Options{Epoch: keys.Epoch(), Ranges: []follow.Range{follow.Prefix(keys.Services())}})
//	go f.Run(ctx)
//
// Whatever ends the watch (compaction, a lost leader, a dead connection, a member that
// hangs, an etcd that was wiped or restored), the follower compares what etcd holds with
// what the mirror has, key by key and revision by revision, tells it the difference, and
// watches again. Until then the mirror stands as it was: an error never takes anything
// out of it. Retries never end.
package reflector
