package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"disc/discovery"
)

// agent is an agent in a simulation. Messages wait in its inbox until it runs.
type agent struct {
	*simulation
	name         int
	starts       int // how often it was started
	account      account
	offset       time.Duration
	drift        float64 // by which part its clock runs too fast
	delivered    int     // changes of the etcd's log that it was sent
	inbox        []message
	cutUntil     time.Duration // from etcd
	stoppedUntil time.Duration
	watching     bool
	want         float64 // takes a second
	hoards       bool    // buys as much as it may, and uses it at the last moment
	waiters      []*waiter
	got          int64 // tokens that it ever got
}

// message reaches an agent at a time.
type message struct {
	at time.Duration
	do func(now time.Duration)
}

// simulation is a fleet and its etcd, in simulated time.
type simulation struct {
	*rand.Rand
	now         time.Duration
	store       simulatedEtcd
	saved       *simulatedEtcd // a backup
	away        time.Duration  // until when etcd is away
	agents      []*agent
	eras        []era
	disturbance float64 // how often the fleet is disturbed, 0 to 1
	admitted    []admission
	deliveries  []delivery // purchases on their way to etcd
}

// delivery is a purchase that reaches etcd at a time.
type delivery struct {
	at time.Duration
	do func()
}

// clock returns the time by the agent's clock.
func (a *agent) clock() time.Duration {
	return a.offset + time.Duration(float64(a.now)*(1+a.drift))
}

func (s *simulation) chance(perSecond float64, step time.Duration) bool {
	return s.Float64() < perSecond*step.Seconds()
}

// upTo returns a random duration below a bound.
func (s *simulation) upTo(most time.Duration) time.Duration {
	return time.Duration(s.Float64() * float64(most))
}

func newSimulation(seed uint64, agents int, limit discovery.Limit) *simulation {
	s := &simulation{Rand: rand.New(rand.NewPCG(seed, 1))}
	s.disturbance = max(0, 1.5*s.Float64()-0.5)
	hoards := s.Float64() < 0.5
	s.setPolicy(limit)
	for n := range agents {
		a := &agent{simulation: s, name: n, offset: s.upTo(time.Hour), drift: (2*s.Float64() - 1) * 500e-6,
			want: limit.PerSecond() * (0.2 + 3*s.Float64()) / float64(agents), hoards: hoards && s.Float64() < 0.8}
		if a.hoards {
			a.want = 0.2 + 5*s.Float64()
		}
		a.start()
		s.agents = append(s.agents, a)
	}
	return s
}

func (s *simulation) setPolicy(limit discovery.Limit) {
	s.store.put(change{policy: fmt.Appendf(nil, `{"rate":%g,"burst":%d}`, limit.Rate, limit.Burst)})
	s.eras = append(s.eras, era{s.now, limit})
}

func (a *agent) start() {
	a.starts++
	a.account, a.inbox, a.watching = newAccount(fmt.Sprintf("a%d-%d", a.name, a.starts)), nil, false
}

// reaches reports whether the agent can reach etcd.
func (a *agent) reaches() bool { return a.now >= a.cutUntil && a.now >= a.away }

// later sends the agent a message that arrives within a time.
func (a *agent) later(most time.Duration, do func(now time.Duration)) {
	at := a.now + a.upTo(most)
	a.inbox = append(a.inbox, message{at, do})
}

// step does the agent's work of one step of time.
func (a *agent) step(step time.Duration) {
	if a.now < a.stoppedUntil {
		return
	}
	a.watch()
	a.receive()
	now := a.clock()
	if a.hoards {
		a.hoard(now)
		return
	}
	for k := a.want * step.Seconds(); k > 0; k-- {
		if a.Float64() < k {
			a.take(now)
		}
	}
	a.collectResults()
	if n, _ := a.account.nextPurchase(now); n > 0 {
		a.send(a.account.startPurchase(now, n))
	}
}

// hoard does the worst that an agent may: at random moments it buys all tokens that are
// available, and uses them when they are nearly void.
func (a *agent) hoard(now time.Duration) {
	c := &a.account
	if n := c.available(now); n > 0 && !c.purchasing && !c.stale && c.exists() && a.chance(a.want, time.Millisecond) {
		a.send(c.startPurchase(now, n))
	}
	for c.tokens.expire(now); len(c.tokens.batches) > 0 && c.tokens.batches[0].until-now < 2*time.Millisecond; {
		n := c.tokens.batches[0].n
		c.tokens.take(now, n)
		a.admit(n)
	}
}

// admit records that tokens were used.
func (a *agent) admit(n int64) {
	a.admitted = append(a.admitted, admission{a.now, n})
	a.got += n
}

// receive handles the messages that have arrived.
func (a *agent) receive() {
	waiting := a.inbox
	a.inbox = nil
	for _, m := range waiting {
		if m.at > a.now {
			a.inbox = append(a.inbox, m)
			continue
		}
		m.do(a.clock())
	}
}

// watch starts, continues or ends the agent's watch of etcd.
func (a *agent) watch() {
	switch {
	case !a.reaches():
		if a.watching {
			a.watching = false
			a.later(time.Second, a.account.markStale) // the agent notices late
		}
	case !a.watching:
		a.watching, a.delivered = true, len(a.store.log)
		is := a.store
		a.later(20*time.Millisecond, func(now time.Duration) {
			a.account.markStale(now)
			a.account.setPolicy(now, is.policy, is.policyRevision)
			a.account.setLedger(now, is.ledger)
			a.account.confirm(now)
		})
	}
	if a.watching && a.Float64() < 0.5 {
		a.deliver()
	}
}

// deliver sends the agent the changes that it was not sent yet, in order.
func (a *agent) deliver() {
	for _, c := range a.store.log[a.delivered:] {
		if len(a.inbox) > 0 && a.inbox[len(a.inbox)-1].at > a.now {
			return // an earlier change is still on its way
		}
		a.delivered++
		a.later(5*time.Millisecond, func(now time.Duration) {
			if c.isLedger {
				a.account.setLedger(now, c.ledger)
			} else {
				a.account.setPolicy(now, c.policy, c.revision)
			}
			a.account.confirm(now)
		})
	}
}

func (a *agent) take(now time.Duration) {
	n := int64(1)
	if a.Float64() < 0.1 {
		n += a.Int64N(3)
	}
	switch o := a.account.take(now, n); {
	case n > int64(a.account.capacity):
	case o.outcome == granted:
		a.admit(n)
	case o.outcome == queued:
		a.account.queue = append(a.account.queue, &waiter{n, make(chan takeResult, 1)})
		a.waiters = append(a.waiters, a.account.queue[len(a.account.queue)-1])
	}
}

// collectResults admits the tokens of waiters that were granted.
func (a *agent) collectResults() {
	kept := a.waiters[:0]
	for _, w := range a.waiters {
		select {
		case o := <-w.result:
			if o.outcome == granted {
				a.admit(w.n)
			}
		default:
			kept = append(kept, w)
		}
	}
	a.waiters = kept
}

// send sends a purchase; it or its answer may be lost.
func (a *agent) send(p purchase) {
	starts := a.starts
	delay := a.upTo(10 * time.Millisecond)
	if a.Float64() < 0.02 {
		delay = a.upTo(2 * time.Second)
	}
	a.deliveries = append(a.deliveries, delivery{a.now + delay, func() {
		var written storedLedger
		ok, lost := false, !a.reaches()
		if !lost {
			written, ok = a.store.commit(p)
		}
		if a.Float64() < 0.02 {
			lost = true
		}
		a.later(10*time.Millisecond, func(now time.Duration) {
			switch {
			case a.starts != starts:
			case lost:
				a.account.purchaseFailed(now)
			case ok:
				a.account.purchaseCommitted(now, p, written)
			default:
				a.account.purchaseLost(now, p)
			}
		})
	}})
}

// disturb lets a random fault or change happen, or none.
func (s *simulation) disturb(step time.Duration) {
	step = time.Duration(s.disturbance * float64(step))
	a := s.agents[s.IntN(len(s.agents))]
	switch {
	case s.chance(0.3, step):
		a.stoppedUntil = s.now + s.upTo(3*time.Second)
	case s.chance(0.3, step):
		a.cutUntil = s.now + s.upTo(3*time.Second)
	case s.chance(0.2, step):
		a.start()
	case s.chance(0.1, step):
		s.setPolicy(someLimit(s.Rand))
	case s.chance(0.05, step):
		s.store.put(change{isLedger: true})
	case s.chance(0.05, step):
		was := s.store
		s.saved = &was
	case s.saved != nil && s.chance(0.1, step) && s.saved.policyRevision == s.store.policyRevision:
		s.restore()
	}
}

// restore restores the backup. Revisions after it are used again, for other changes.
func (s *simulation) restore() {
	s.store = *s.saved
	s.store.log = append([]change{}, s.saved.log...)
	s.saved = nil
	s.away = s.now + time.Second + s.upTo(time.Second)
	for _, a := range s.agents {
		a.delivered = len(s.store.log)
	}
}

func someLimit(r *rand.Rand) discovery.Limit {
	rate := math.Pow(10, 3*r.Float64())
	return policy(math.Ceil(rate*10)/10, 1+r.Int64N(int64(rate)+2))
}

// run simulates a length of time.
func (s *simulation) run(length time.Duration, disturbed bool) {
	const step = time.Millisecond
	for end := s.now + length; s.now < end; s.now += step {
		if disturbed {
			s.disturb(step)
		}
		due := s.deliveries
		s.deliveries = nil
		for _, p := range due {
			if p.at > s.now {
				s.deliveries = append(s.deliveries, p)
				continue
			}
			p.do()
		}
		for _, a := range s.agents {
			a.step(step)
		}
	}
}
