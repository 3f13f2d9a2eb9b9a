package lock

// RemoveOrphans is what Run does when orphans are expected.
var RemoveOrphans = (*Manager).removeOrphans
