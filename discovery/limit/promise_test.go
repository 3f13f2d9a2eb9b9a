package limit

import (
	"math/rand/v2"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
)

func TestNeverAboveTheLimit(t *testing.T) {
	t.Parallel()
	histories, admitted, fullest := etcdtest.Length(300, 2000), 0, 0
	for seed := range histories {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		s := newSimulation(uint64(seed), 1+r.IntN(6), someLimit(r))
		hoard := r.Float64() < 0.5
		for _, a := range s.agents {
			a.hoards = hoard && r.Float64() < 0.8
			a.takeRandomly(s.store.policy.Limit.PerSecond() * (0.2 + 3*r.Float64()) / float64(len(s.agents)))
		}
		if rate := 4*r.Float64() - 1; rate > 0 {
			s.disturb(rate, r.Float64())
		}
		s.run(s.now+10*time.Second, forever)
		admitted += len(s.admitted)
		over := excess(s.admitted, s.limits)
		if over > 0 {
			t.Errorf("history %d: %v above the limit, of %d admissions and policies %v", seed, over, len(s.admitted), s.limits)
		}
		if over > -0.5 {
			fullest++
		}
	}
	t.Logf("%d admissions; %d of %d histories come within half a token of the limit", admitted, fullest, histories)
	if admitted < 100*histories || fullest < histories/10 {
		t.Errorf("%d admissions, of which %d of %d histories come close to the limit, are too few to show anything", admitted, fullest, histories)
	}
}
