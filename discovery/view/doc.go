// Package view merges the records of a namespace into an immutable [Snapshot].
//
//	snapshot, events, broken := view.EmptySnapshot().Apply(revision, changes)
//	service, ok := snapshot.Service("web")
//	for _, e := range service.Entries() {
//		fmt.Println(e.ID, e.Address, e.Status, e.State)
//	}
//
// An [Entry] is an instance as readers see it: the agent's record, or else the static
// entry, with the operator's override applied. An [Event] is a change of an entry. Each
// method that derives a snapshot returns another one, which shares the services that did
// not change, so that a change costs as much as its service is large. All methods may be
// called by many goroutines at once.
//
// The package is pure: it knows neither etcd nor the queries that package lookup answers.
package view
