package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// The bounds of the time until a caller that does as Retry-After says gets a token, in times
// of a token, beside a second's share of patience: of the first of several callers, and of each.
const (
	someFactor = 4
	eachFactor = 60
	patience   = 3 * time.Second
)

// asker asks an agent for a token, and again when Retry-After says so. When it got one it
// wants the next.
type asker struct {
	*simulation
	agent  *agent
	whole  bool // it waits for whole seconds, as HTTP's header says
	paused bool
	got    time.Duration // when it got the last token
	tries  int
}

// ask asks, unless the asker has asked again meanwhile.
func (k *asker) ask() {
	if k.paused {
		return
	}
	try := k.next()
	k.again(2*maxWait, try) // for when the agent is started anew
	k.agent.take(1, func(r takeResult) {
		if k.tries != try {
			return
		}
		try := k.next()
		switch d := k.agent.account.decision(k.agent.clock(), r.outcome, 1); {
		case r.outcome == granted:
			k.got = k.now
			k.again(time.Millisecond+k.upTo(10*time.Millisecond), try)
		case r.outcome == noLimit:
			k.again(time.Second, try)
		case k.whole:
			k.again(time.Duration(d.RetrySeconds())*time.Second, try)
		default:
			k.again(d.RetryAfter, try)
		}
	})
}

func (k *asker) next() int {
	k.tries++
	return k.tries
}

// again asks again after a delay, unless the asker has asked since a try.
func (k *asker) again(delay time.Duration, try int) {
	k.after(delay, func() {
		if k.tries == try {
			k.ask()
		}
	})
}

// TestEverybodyGetsAToken lets callers ask agents for the tokens of a limit, from one a week
// to 10^6 a second, and disturbs them. After each disturbance some caller gets a token within
// someFactor/rate + patience, and each of N within eachFactor·N/rate + patience.
func TestEverybodyGetsAToken(t *testing.T) {
	t.Parallel()
	histories := etcdtest.Simulations(300, 600)
	some, each := 0.0, 0.0
	for seed := range histories {
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		limit := rareOrFrequent(r)
		s := newSimulation(uint64(seed), 1+r.IntN(4), limit)
		s.loss = 0
		askers, whole := make([]*asker, 1+r.IntN(8)), r.IntN(2) == 0
		for n := range askers {
			askers[n] = &asker{simulation: s, agent: s.agents[r.IntN(len(s.agents))], whole: whole}
			s.after(s.upTo(time.Second), askers[n].ask)
		}
		for range 4 {
			what := s.disturbAskers(r, askers)
			s.run(s.now+100*time.Millisecond, forever) // until all agents have heard of a change
			for _, k := range askers {
				k.ask() // what it was told before may not be so any more
			}
			first, last := s.awaitTokens(askers)
			perToken := askers[0].timeOfToken()
			some = max(some, float64(first-patience)/float64(perToken))
			each = max(each, float64(last-patience)/float64(perToken)/float64(len(askers)))
			if first > someFactor*perToken+patience || last > time.Duration(eachFactor*len(askers))*perToken+patience {
				t.Errorf("history %d: after %s, a token of %v came after %v, and each of %d had one after %v", seed, what, s.store.policy.Limit, first, len(askers), last)
			}
		}
	}
	t.Logf("the first token came within %.1f/rate + %v, each caller's within %.1f N/rate + %v", some, patience, each, patience)
}

// rareOrFrequent returns a limit, of which a token comes once a week or a million times a
// second.
func rareOrFrequent(r *rand.Rand) discovery.Limit {
	slowest, fastest := math.Log(discovery.MinLimitRate), math.Log(discovery.MaxLimitRate)
	perSecond := math.Exp(slowest + (fastest-slowest)*r.Float64())
	return discovery.Limit{Rate: perSecond * 86400, Per: discovery.Duration(24 * time.Hour), Burst: []int64{1, 1, 2, 5, 60}[r.IntN(5)]}.WithDefaults()
}

// timeOfToken returns how long tokens that are sold one by one are apart: 1/rate or, where
// the burst is small for the rate, longer. Who comes in whole seconds takes one a second.
func (k *asker) timeOfToken() time.Duration {
	p := parametersOf(k.store.policy.Limit)
	t := seconds((1 + max(0, 1-p.capacity)) / p.rate)
	if k.whole {
		t = max(t, time.Second)
	}
	return t
}

// awaitTokens returns how long it takes from now until the first and until each asker gets a
// token, at most twice what is allowed.
func (s *simulation) awaitTokens(askers []*asker) (first, last time.Duration) {
	from := s.now
	most := 2*patience + time.Duration(2*eachFactor*len(askers))*askers[0].timeOfToken()
	left := func() (n int) {
		for _, k := range askers {
			if k.got <= from {
				n++
			}
		}
		return n
	}
	s.run(from+most, func() bool { return left() < len(askers) })
	first = s.now - from
	s.run(from+most, func() bool { return left() == 0 })
	return first, s.now - from
}

// disturbAskers disturbs the fleet for a while, or lets it be idle, and says how.
func (s *simulation) disturbAskers(r *rand.Rand, askers []*asker) string {
	perToken := askers[0].timeOfToken()
	switch r.IntN(10) {
	case 0:
		idle := s.upTo(3*perToken + time.Hour)
		for _, k := range askers {
			k.paused = true
		}
		for _, a := range s.agents {
			a.forgetUnused()
		}
		s.run(s.now+idle, forever)
		for _, k := range askers {
			k.paused = false
		}
		return fmt.Sprintf("idleness for %v", idle)
	case 1:
		s.away = s.now + 100*time.Millisecond
		s.run(s.away, forever)
		return "a restart of etcd"
	case 2:
		for range 10 {
			s.away = s.now + s.upTo(time.Second)
			s.run(s.now+perToken/4+time.Second, forever)
		}
		return "ten restarts of etcd"
	case 3:
		a := s.agents[r.IntN(len(s.agents))]
		a.cutUntil = s.now + s.upTo(time.Minute)
		s.run(a.cutUntil, forever)
		return "a cut"
	case 4:
		for _, a := range s.agents {
			a.start()
		}
		return "a restart of all agents"
	case 5:
		for _, a := range s.agents[1:] {
			a.start()
		}
		return "a restart of all agents but one"
	case 6:
		was := s.store.policy.Limit
		s.setPolicy(rareOrFrequent(r))
		return fmt.Sprintf("a change from %v", was)
	case 7:
		s.store.deletePolicy()
		s.publish()
		s.setPolicy(rareOrFrequent(r))
		return "a deletion"
	}
	a := s.agents[r.IntN(len(s.agents))]
	until, what := s.now+s.upTo(time.Minute), "a stop"
	if r.IntN(2) == 0 {
		a.slowUntil, a.slow, what = until, s.upTo(time.Second), "late answers"
	} else {
		a.stoppedUntil = until
	}
	s.run(until, forever)
	return what
}
