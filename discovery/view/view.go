package view

import "time"

// View is a snapshot and how sure it is.
type View struct {
	Snapshot *Snapshot
	Age      time.Duration // since etcd last confirmed that the snapshot was current
	Stale    bool          // Age is above the threshold
	Partial  bool          // it is of what somebody asked for, and not of the whole namespace
}
