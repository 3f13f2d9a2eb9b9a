package lock

import "time"

// RemoveOrphans is what Run does when orphans are expected.
var RemoveOrphans = (*Manager).removeOrphans

// MarkedBroken is what a manager does when it sees that a grant's key is marked.
var MarkedBroken = (*Manager).markedBroken

// SetPromiseCap sets the time after which a manager removes a marked key.
func SetPromiseCap(m *Manager, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.promiseCap = d
}
