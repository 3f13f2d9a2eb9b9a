// Package kv holds a fleet's shared key/value state: values that all workers read, stored
// in etcd and read from memory.
//
// A [Store] reads from a local cache. The first read under a directory lists and watches
// it; later reads under it need no request, until nothing there was read for ten minutes.
// Writes go to etcd and return etcd's revision. A reader that knows this revision can wait
// until its cache has reached it.
//
// etcd keeps the values of before until it compacts them. [Store.History] and [Store.GetAt]
// read them, and [Store.Rollback] writes one again.
//
//	s, err := kv.New(client, keys, kv.Options{})
//	go s.Run(ctx)
//	revision, err := s.Write(ctx, kv.Op{Key: "app/greeting", Value: []byte("hello")})
//	item, _, err := s.Get(ctx, "app/greeting", kv.Read{MinRevision: revision})
package kv
