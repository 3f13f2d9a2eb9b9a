package lock

import (
	"time"

	"disc/discovery/etcd"
)

// RemoveOrphans is what Run does when orphans are expected.
var RemoveOrphans = (*Manager).removeOrphans

// WatchDelay is how long a grant lasts before its key is watched.
const WatchDelay = watchDelay

// MarkedBroken is what a manager does when it sees that a grant's key is marked.
var MarkedBroken = (*Manager).markedBroken

// IntervalOver returns how often the keys of all grants are read that are watched over a stream.
func (m *Manager) IntervalOver(s *etcd.WatchStream) time.Duration {
	return (&verifier{Manager: m, stream: s}).interval()
}

// ProxiedInterval is that behind etcd's grpc-proxy, at most.
const ProxiedInterval = proxiedInterval
