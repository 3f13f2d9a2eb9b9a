package limit

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
)

// fleetTotals sums up what happened in the histories of a test.
type fleetTotals struct{ histories, admitted, fullest, late, givenBack int }

// check adds a history, which must keep its limits.
func (f *fleetTotals) check(t *testing.T, s *simulation) {
	t.Helper()
	over := excess(s.admitted, s.limits)
	if over > 0 {
		t.Errorf("history %d: %v above the limit, of %d admissions and policies %v", f.histories, over, len(s.admitted), s.limits)
	}
	if over > -0.5 {
		f.fullest++
	}
	f.histories, f.admitted, f.late, f.givenBack = f.histories+1, f.admitted+len(s.admitted), f.late+s.late, f.givenBack+s.givenBack
}

// want fails the test if less happened than shows anything.
func (f *fleetTotals) want(t *testing.T, least fleetTotals) {
	t.Helper()
	t.Logf("%d admissions; %d of %d histories come within half a token of the limit; %d purchases were answered too late, and void tokens were given back %d times",
		f.admitted, f.fullest, f.histories, f.late, f.givenBack)
	if f.admitted < least.admitted || f.fullest < least.fullest || f.late < least.late || f.givenBack < least.givenBack {
		t.Errorf("these are too few to show anything; want %+v", least)
	}
}

func TestNeverAboveTheLimit(t *testing.T) {
	t.Parallel()
	histories, totals := etcdtest.Simulations(300, 2000), fleetTotals{}
	for seed := range histories {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		s := newSimulation(uint64(seed), 1+r.IntN(6), someLimit(r))
		s.returned = 0.05
		hoard := r.Float64() < 0.5
		for _, a := range s.agents {
			a.hoards, a.divides, a.wastes = hoard && r.Float64() < 0.8, 0.3, 0.6*r.Float64()
			a.takeRandomly(s.store.policy.Limit.PerSecond() * (0.2 + 3*r.Float64()) / float64(len(s.agents)))
		}
		if rate := 4*r.Float64() - 1; rate > 0 {
			s.disturb(rate, r.Float64())
		}
		s.run(s.now+10*time.Second, forever)
		totals.check(t, s)
	}
	totals.want(t, fleetTotals{admitted: 100 * histories, fullest: histories / 10, late: histories / 10, givenBack: histories})
}

// TestNeverAboveTheLimitWithVoidTokens lets agents buy all that they may, and use nothing of
// many purchases, or learn of these too late.
func TestNeverAboveTheLimitWithVoidTokens(t *testing.T) {
	t.Parallel()
	histories, totals := etcdtest.Simulations(5000, 20000), fleetTotals{}
	for seed := range histories {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		rate := math.Pow(10, 1+2*r.Float64())
		s := newSimulation(uint64(seed), 1+r.IntN(3), policy(rate, int64(rate*(0.5+2*r.Float64()))))
		s.loss, s.returned = 0, 0.2
		slow := r.Float64() < 0.5
		for _, a := range s.agents {
			a.hoards, a.divides, a.wastes = true, r.Float64(), 0.5
			if slow {
				horizon := parametersOf(s.store.policy.Limit).horizon
				a.slowUntil, a.slow, a.prompt = math.MaxInt64, horizon+s.upTo(horizon/2), 0.5+0.5*r.Float64()
			}
			a.takeRandomly(rate)
		}
		s.run(s.now+5*time.Second, forever)
		totals.check(t, s)
	}
	totals.want(t, fleetTotals{admitted: 10 * histories, fullest: histories / 10, late: histories / 10, givenBack: histories})
}
