package check

import "disc/discovery"

// threshold turns a check's results into its status. A check becomes passing after
// success results in a row that pass, and leaves passing (or speaks for the first
// time) after failure results in a row that do not; in between it is what it was,
// "" in the beginning. Between warning and critical it changes at once.
type threshold struct {
	success, failure int              // at least 1
	status           discovery.Status // "" until it is determined
	passing          bool             // whether the last result passed
	consecutive      int              // how many results in a row agree on that
}

func newThreshold(spec discovery.CheckSpec) threshold {
	return threshold{success: max(1, spec.SuccessThreshold), failure: max(1, spec.FailureThreshold)}
}

func (t *threshold) observe(result discovery.Status) {
	passes := result == discovery.Passing
	if passes != t.passing {
		t.consecutive = 0
	}
	t.passing = passes
	t.consecutive++
	failing := t.status == discovery.Warning || t.status == discovery.Critical
	switch {
	case passes && t.consecutive >= t.success:
		t.status = discovery.Passing
	case !passes && (failing || t.consecutive >= t.failure):
		t.status = result
	}
}
