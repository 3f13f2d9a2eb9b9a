package retrytest

import "testing"

// measurements is how often Allocations measures, at most.
const measurements = 5

// Allocations returns how often f allocates, on average over some runs: the least of several
// measurements, since each counts what other goroutines of the process allocate meanwhile.
func Allocations(runs int, f func()) float64 {
	least := testing.AllocsPerRun(runs, f)
	for n := 1; n < measurements && least > 0; n++ {
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}
