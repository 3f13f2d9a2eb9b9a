package limit

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestNeverAboveTheLimit(t *testing.T) {
	histories, admitted := 200, 0
	for seed := range histories {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		s := newSimulation(uint64(seed), 1+r.IntN(6), someLimit(r))
		s.run(15*time.Second, true)
		admitted += len(s.admitted)
		if over := excess(s.admitted, s.eras); over > 0 {
			t.Errorf("history %d: %v above the limit, of %d admissions and policies %v", seed, over, len(s.admitted), s.eras)
		}
	}
	if admitted < 100*histories {
		t.Errorf("%d admissions in %d histories are too few to show anything", admitted, histories)
	}
}

// Where agents want more than the limit allows, an agent that was just started, stood still
// or was cut off gets its share.
func TestNewcomersAreServed(t *testing.T) {
	for seed := range 20 {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		s := newSimulation(uint64(seed), 4, someLimit(r))
		for _, a := range s.agents {
			a.hoards, a.want = false, s.eras[0].limit.PerSecond()
		}
		s.run(5*time.Second, false)
		s.agents[0].start()
		s.agents[1].stoppedUntil = s.now + 2*time.Second
		s.agents[2].cutUntil = s.now + 2*time.Second
		s.run(3*time.Second, false)
		before := []int64{s.agents[0].got, s.agents[1].got, s.agents[2].got}
		wait := max(10*time.Second, seconds(300/s.eras[0].limit.PerSecond()))
		s.run(wait, false)
		for n, had := range before {
			if s.agents[n].got == had {
				t.Errorf("history %d: agent %[3]d got nothing of %[2]v in %[4]v; the fleet got %[5]d", seed, s.eras[0].limit, n, wait, len(s.admitted))
			}
		}
	}
}
