// Package catalog keeps a local view of a namespace: the services with their
// instances, overrides and static entries, and the agents.
//
// A [Catalog] lists at one revision of etcd, watches from the next, and publishes an
// immutable [view.Snapshot] after each batch of changes. Readers load a pointer; they
// never wait and never see half a change:
//
//	c, err := catalog.New(client, keys, catalog.Options{})
//	go c.Run(ctx)
//	v, err := c.View() // ErrUnavailable until the first list is complete
//	answer, err := lookup.Lookup(v.Snapshot, lookup.Query{Name: "web"})
//
// [Catalog.Service] is shorter for a program that picks an instance of a service itself.
//
// To wait for a change, get the channel first and the view second:
//
//	changed := c.Changed("web")
//	v, err := c.View()
//	<-changed
//
// When the watch ends (compaction, a lost leader, a dead connection, an etcd that was
// wiped or restored), the catalog compares etcd with its view, key by key and revision by
// revision, applies the difference and watches again. Until then the last view stands,
// with its age.
package catalog
