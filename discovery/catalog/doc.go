// Package catalog keeps a local view of a namespace: the services with their
// instances, overrides and static entries, and the agents.
//
// A [Catalog] lists at one revision of etcd, watches from the next, and publishes an
// immutable [discovery.Snapshot] after each batch of changes. Readers load a pointer;
// they never wait and never see half a change:
//
//	c, err := catalog.New(client, keys, catalog.Options{})
//	go c.Run(ctx)
//	view, err := c.View() // ErrUnavailable until the first list is complete
//	answer, err := discovery.Lookup(view.Snapshot, discovery.Query{Name: "web"})
//
// [Catalog.Service] is the shorter way where a program chooses among the instances of a
// service itself.
//
// To wait for a change, take the channel first and the view second:
//
//	changed := c.Changed("web")
//	view, err := c.View()
//	<-changed
//
// Whatever ends the watch (compaction, a lost leader, a dead connection, an etcd that
// was wiped or restored), the catalog compares what etcd holds with what it has, key by
// key and revision by revision, applies the difference and watches again. Until then
// the last view stands, and says how old it is.
package catalog
