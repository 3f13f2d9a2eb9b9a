package check

import "disc/discovery"

// threshold turns the results of a check into its status. The status becomes passing after
// success consecutive results that pass. It leaves passing, or is set for the first time, after
// failure consecutive results that do not pass. Otherwise it stays as it is, "" at first.
// Between warning and critical it changes at once.
type threshold struct {
	success, failure int              // at least 1
	status           discovery.Status // "" until it is determined
	passing          bool             // whether the last result passed
	consecutive      int              // results in a row that agree with passing
}

func newThreshold(spec discovery.CheckSpec) threshold {
	return threshold{success: max(1, spec.SuccessThreshold), failure: max(1, spec.FailureThreshold)}
}

// observe updates the status after a result.
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
