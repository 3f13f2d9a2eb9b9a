package check

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery"
)

func report(status discovery.Status, checks ...discovery.Status) Report {
	r := Report{Status: status}
	for n, s := range checks {
		r.Checks = append(r.Checks, discovery.CheckStatus{ID: fmt.Sprint(n), Status: s})
	}
	return r
}

// damp runs a damper. It returns functions that offer a report, and that list the reports
// written so far, each with its second.
func damp(t *testing.T) (offer func(Report), written func() []string) {
	var lines []string
	began := time.Now()
	d := NewDamper(func(r Report) {
		lines = append(lines, fmt.Sprintf("%v %s", time.Since(began), r.Status))
	})
	stop := start(t, d.Run)
	t.Cleanup(stop)
	return d.Offer, func() []string { synctest.Wait(); return lines }
}

func TestDamperFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offer, written := damp(t)
		for n := range 57 {
			offer(report([]discovery.Status{discovery.Passing, discovery.Critical}[n%2]))
			time.Sleep(700 * time.Millisecond)
		}
		offer(report(discovery.Warning))
		time.Sleep(time.Minute)
		// At 20s a write was allowed, but the instance was back in the last written state.
		want := []string{"0s passing", "700ms critical", "10s passing", "20.3s critical", "30s passing", "40s warning"}
		got := written()
		if !slices.Equal(got, want) {
			t.Errorf("written: %q, want %q", got, want)
		}
	})
}

func TestDamperBackWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offer, written := damp(t)
		for _, s := range []discovery.Status{discovery.Passing, discovery.Critical, discovery.Passing, discovery.Critical} {
			offer(report(s))
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if got, want := written(), []string{"0s passing", "0s critical"}; !slices.Equal(got, want) {
			t.Errorf("written: %q, want %q", got, want)
		}
	})
}

func TestDamperHoldsBackANewOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offer, written := damp(t)
		for n := range 3 {
			r := report(discovery.Critical, discovery.Critical)
			r.Checks[0].Output = fmt.Sprint("attempt ", n)
			offer(r)
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if got, want := written(), []string{"0s critical"}; !slices.Equal(got, want) {
			t.Errorf("written: %q, want %q", got, want)
		}
	})
}

func TestDamperHoldsBackWhatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offer, written := damp(t)
		offer(report("", discovery.Passing, ""))
		synctest.Wait()
		offer(report("", discovery.Passing, "", discovery.Passing))
		synctest.Wait()
		offer(report(discovery.Passing, discovery.Passing, discovery.Passing))
		if got, want := written(), []string{"0s passing"}; !slices.Equal(got, want) {
			t.Errorf("written: %q, want %q", got, want)
		}
	})
}

// A check that flaps without a change of the status never delays a change of the status.
func TestDamperStatusGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offer, written := damp(t)
		offer(report(discovery.Critical, discovery.Critical, discovery.Passing))
		for n := range 60 {
			time.Sleep(time.Second)
			offer(report(discovery.Critical, discovery.Critical, []discovery.Status{discovery.Warning, discovery.Passing}[n%2]))
		}
		before := len(written())
		if before < 2 || before > 7 {
			t.Errorf("%d writes in a minute, want 2 to 7", before)
		}
		offer(report(discovery.Passing, discovery.Passing, discovery.Passing))
		if got := written(); len(got) != before+1 || got[before] != "1m0s passing" {
			t.Errorf("the change of the status was not written at once: %q", got)
		}
	})
}
