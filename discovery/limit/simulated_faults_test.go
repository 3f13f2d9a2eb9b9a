package limit

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery"
)

// disturb lets random faults and changes happen, about rate a second. changes is the part of
// the changes of policy among them.
func (s *simulation) disturb(rate, changes float64) {
	a := s.agents[s.IntN(len(s.agents))]
	switch x := s.Float64(); {
	case s.Float64() < changes:
		s.changePolicy()
	case x < 0.1:
		a.slowUntil, a.slow = s.now+s.upTo(3*time.Second), s.upTo(600*time.Millisecond)
	case x < 0.3:
		a.stoppedUntil = s.now + s.upTo(3*time.Second)
	case x < 0.55:
		a.cutUntil = s.now + s.upTo(3*time.Second)
	case x < 0.6:
		s.away = max(s.away, s.now+s.upTo(2*time.Second))
	case x < 0.72:
		a.start()
	case x < 0.8:
		a.forgetUnused()
	case x < 0.84:
		s.store.deleteLedger()
		s.publish()
	case x < 0.88:
		s.store.deletePolicy()
		s.publish()
		s.setPolicy(someLimit(s.Rand))
	case x < 0.94:
		is := s.store
		is.log = slices.Clone(is.log)
		s.backup = &is
	case s.backup != nil && s.backup.policy.Created == s.store.policy.Created:
		s.restore()
	}
	s.after(time.Duration(s.ExpFloat64()/rate*float64(time.Second)), func() { s.disturb(rate, changes) })
}

// forgetUnused ends the watch of the limit, and starts it again later.
func (a *agent) forgetUnused() {
	if a.watching && a.now >= a.stoppedUntil {
		a.account = a.account.remembered()
		a.waiters = nil
		a.disconnect()
		a.cutUntil = a.now + a.upTo(time.Second)
	}
}

// changePolicy changes the limit up or down, and sometimes back. Often an agent does not hear
// of it, and uses tokens of the policy before.
func (s *simulation) changePolicy() {
	for _, a := range s.agents {
		if s.Float64() < 0.3 {
			a.cutUntil = s.now + s.upTo(2*time.Second)
			a.cut()
		}
	}
	limit := someLimit(s.Rand)
	if eras := s.limits[s.store.policy.Created]; len(eras) > 1 && s.Float64() < 0.5 {
		limit = eras[len(eras)-2].limit
	}
	s.setPolicy(limit)
}

// restore restores the backup. etcd is away for a moment, and every watch ends.
func (s *simulation) restore() {
	s.store.restoreFrom(*s.backup)
	s.backup = nil
	created := s.store.policy.Created
	s.limits[created] = append(s.limits[created], era{s.now, s.store.policy.Limit})
	s.away = s.now + time.Second + s.upTo(time.Second)
	for _, a := range s.agents {
		if a.watching {
			a.cut()
		}
	}
}

func someLimit(r *rand.Rand) discovery.Limit {
	rate, burst := math.Pow(10, 3*r.Float64()), math.Pow(10, 3*r.Float64())
	return policy(math.Ceil(rate*10)/10, int64(math.Ceil(burst)))
}
