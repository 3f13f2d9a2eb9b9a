package check

import "disc/discovery"

// tally turns a check's results into its status. A check becomes passing after
// success results in a row that pass, and leaves passing (or speaks for the first
// time) after failure results in a row that do not; in between it is what it was,
// "" in the beginning. Between warning and critical it changes at once.
type tally struct {
	success, failure int              // at least 1
	status           discovery.Status // "" until it is determined
	passing          bool             // whether the last result passed
	row              int              // how many results in a row agree on that
}

func newTally(spec discovery.CheckSpec) tally {
	return tally{success: max(1, spec.SuccessThreshold), failure: max(1, spec.FailureThreshold)}
}

func (t *tally) add(result discovery.Status) {
	passes := result == discovery.Passing
	if passes != t.passing {
		t.row = 0
	}
	t.passing = passes
	t.row++
	failing := t.status == discovery.Warning || t.status == discovery.Critical
	switch {
	case passes && t.row >= t.success:
		t.status = discovery.Passing
	case !passes && (failing || t.row >= t.failure):
		t.status = result
	}
}
