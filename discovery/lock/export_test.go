package lock

// RemoveOrphans is what Run does when orphans are expected.
var RemoveOrphans = (*Manager).removeOrphans

// WatchDelay is how long a grant lasts before its key is watched.
const WatchDelay = watchDelay

// MarkedBroken is what a manager does when it sees that a grant's key is marked.
var MarkedBroken = (*Manager).markedBroken
