// Package kv is a fleet's shared key/value state: a value that all workers read, kept in
// etcd and read from memory.
//
// Reads come from a local copy. The first read under a directory lists and watches it;
// after that reads under it ask nobody, until nothing there was read for ten minutes.
// Writes go to etcd, and are answered with etcd's revision; a reader that knows it can
// wait until its copy has come that far.
//
//	s, err := kv.New(client, keys, kv.Options{})
//	go s.Run(ctx)
//	revision, err := s.Write(ctx, kv.Op{Key: "app/greeting", Value: []byte("hello")})
//	item, _, err := s.Get(ctx, "app/greeting", kv.Read{MinRevision: revision})
package kv
