package view

import "time"

// View is a snapshot and its freshness.
type View struct {
	Snapshot *Snapshot
	Age      time.Duration // since etcd last confirmed that the snapshot was current
	Stale    bool          // Age is above the catalog's threshold
	Partial  bool          // the snapshot has the scopes that were asked for, not the whole namespace
}
