// Package reflector keeps a [Store] equal to ranges of etcd's keys: it lists them at one
// revision and watches them from the next, for ever.
//
// A [Reflector] calls the store's methods from [Reflector.Run], in the order of the
// changes and one at a time. How the store holds the keys is its own matter:
//
//	r := reflector.New(client, store, reflector.Options{Epoch: keys.Epoch(), Ranges: []reflector.Range{reflector.Prefix(keys.Services())}})
//	go r.Run(ctx)
//
// When the watch ends (compaction, a lost leader, a dead connection, a member that hangs,
// an etcd that was wiped or restored), the reflector compares etcd with the store, key by
// key and revision by revision, applies the difference and watches again. Until then the
// store is unchanged: an error never removes anything from it. Retries never end.
//
// etcd itself may be asked how far a watch has got. Behind etcd's grpc-proxy the reflector compares
// the number of keys and the newest revision of each range instead.
package reflector
