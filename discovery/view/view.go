package view

import "time"

// View is a snapshot and its freshness.
type View struct {
	Snapshot *Snapshot
	Age      time.Duration // since etcd last confirmed that the snapshot was current
	Stale    bool          // Age is above the catalog's threshold
	Partial  bool          // the snapshot has the scopes that were asked for, not the whole namespace
	Restored bool          // the snapshot is the last good one of an earlier run, and etcd has not confirmed it in this one

	// Confirmed is etcd's revision up to which the snapshot is known to be complete, because
	// nothing of the namespace changed after the snapshot's own; 0: it is not known.
	Confirmed int64
	// First is the revision of the first view in etcd's present life. Of a lower one the view
	// cannot tell whether it belongs to that life.
	First int64
}

// Revision returns etcd's revision up to which the view is complete. It does not go back
// while etcd lives, and moves on, a little late, also where nothing of the namespace changes.
func (v View) Revision() int64 { return max(v.Snapshot.Revision(), v.Confirmed) }
