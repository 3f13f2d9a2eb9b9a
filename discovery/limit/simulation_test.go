package limit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery"
)

// simulation is a fleet and its etcd, in simulated time.
type simulation struct {
	*rand.Rand
	scheduler
	store    simulatedEtcd
	backup   *simulatedEtcd
	away     time.Duration // until when etcd is away
	agents   []*agent
	limits   map[int64][]era // by the Created of their policies
	admitted []admission
	loss     float64 // the part of purchases that are lost or answered late
	returned float64 // the part of granted takes whose tokens are returned a while later

	hoardsFrom      time.Duration // when hoarders buy next
	late, givenBack int           // purchases that were answered too late, and how often a debt was lowered for void tokens
}

// agent is an agent in a simulation.
type agent struct {
	*simulation
	name         int
	starts       int // how often it was started
	account      account
	epoch        int // of the etcd that it knows; -1: none
	offset       time.Duration
	drift        float64       // by which part its clock runs too fast
	wall         time.Duration // by which its wall clock is wrong
	cutUntil     time.Duration // from etcd
	stoppedUntil time.Duration
	slowUntil    time.Duration    // etcd's answers and events take long
	slow         time.Duration    // how long
	prompt       float64          // the part of them that does not
	beats        int              // how often its heartbeats were started
	connections  int              // how often its watch was started
	lanes        [2]time.Duration // when the last event of the policy's and of the ledger's watch arrives
	delivered    int              // of the store's log
	watching     bool
	poked        time.Duration // when it is asked next whether to buy; 0: not at all
	hoards       bool          // buys as much as it may, and uses it at the last moment
	divides      float64       // the part of its purchases that are not of all available tokens
	wastes       float64       // the part of its purchases of which a hoarder uses nothing
	waiters      []waiting
	got          int64 // tokens that it ever got
}

// waiting is a take that waits for a purchase.
type waiting struct {
	*waiter
	decided func(takeResult)
}

// upTo returns a random duration below a bound.
func (s *simulation) upTo(most time.Duration) time.Duration {
	return time.Duration(s.Float64() * float64(most))
}

func newSimulation(seed uint64, agents int, limit discovery.Limit) *simulation {
	s := &simulation{Rand: rand.New(rand.NewPCG(seed, 1)), limits: map[int64][]era{}, loss: 0.02}
	s.now = 10 * time.Hour
	s.setPolicy(limit)
	for n := range agents {
		a := &agent{simulation: s, name: n, offset: s.upTo(time.Hour), drift: (2*s.Float64() - 1) * 500e-6, wall: s.upTo(wallClockError)}
		s.agents = append(s.agents, a)
		a.start()
		a.heartbeat(a.beats)
	}
	return s
}

// setPolicy sets the limit in etcd.
func (s *simulation) setPolicy(limit discovery.Limit) {
	s.store.putPolicy(limit)
	s.limits[s.store.policy.Created] = append(s.limits[s.store.policy.Created], era{s.now, limit})
	s.publish()
	for _, a := range s.agents {
		a.beats++
		a.heartbeat(a.beats)
	}
}

// pulse returns the time between two heartbeats of an agent. A limit of a token a week has
// few.
func (s *simulation) pulse() time.Duration {
	return max(500*time.Millisecond, seconds(0.01/s.store.policy.Limit.PerSecond()))
}

// clock returns the time by the agent's clock.
func (a *agent) clock() time.Duration {
	return a.offset + time.Duration(float64(a.now)*(1+a.drift))
}

// wallClock returns the time by the agent's wall clock.
func (a *agent) wallClock() time.Time { return time.Unix(1e9, 0).Add(a.now + a.wall) }

// start starts the agent with an empty memory.
func (a *agent) start() {
	a.starts++
	a.account, a.epoch = newAccount(fmt.Sprintf("a%d-%d", a.name, a.starts)), -1
	a.account.draw = a.upTo
	a.waiters = nil
	a.disconnect()
	a.connect()
}

// reaches reports whether the agent can reach etcd.
func (a *agent) reaches() bool { return a.now >= a.cutUntil && a.now >= a.away }

// receive lets the agent handle something after a delay, or when it goes on, unless it was
// started anew.
func (a *agent) receive(delay time.Duration, handle func(now time.Duration)) {
	starts := a.starts
	var arrive func()
	arrive = func() {
		switch {
		case a.starts != starts:
		case a.now < a.stoppedUntil:
			a.after(a.stoppedUntil-a.now, arrive)
		default:
			a.handle(handle)
			a.collectResults()
			a.poke()
		}
	}
	a.after(delay, arrive)
}

// handle lets the agent handle something, and counts what that does with void tokens.
func (a *agent) handle(handle func(now time.Duration)) {
	now := a.clock()
	debt, ledger, policy, credited := a.account.debt(now), a.account.ledger, a.account.policy.Revision, a.account.pending.credited
	handle(now)
	if a.account.debt(now) < debt-1e-6 && a.account.ledger == ledger && a.account.policy.Revision == policy {
		a.givenBack++
	}
	if !credited && a.account.pending.credited && now >= a.account.pending.sentAt+a.account.horizon {
		a.late++
	}
}

// lag returns how much longer an answer or event of etcd takes now.
func (a *agent) lag() time.Duration {
	if a.now >= a.slowUntil || a.Float64() < a.prompt {
		return 0
	}
	return a.slow - a.upTo(a.slow/5)
}

// heartbeat looks from time to time whether the watch is to be broken, started or confirmed.
func (a *agent) heartbeat(beats int) {
	switch {
	case a.beats != beats:
		return
	case a.now < a.stoppedUntil:
	case a.watching && !a.reaches():
		a.cut()
	case !a.watching && a.reaches():
		a.connect()
	case a.watching && a.delivered == len(a.store.log):
		asked, connection := a.clock(), a.connections
		a.receive(max(a.lanes[0], a.lanes[1])-a.now+a.upTo(5*time.Millisecond), func(now time.Duration) {
			if a.connections == connection {
				a.account.confirm(now, asked, 20*a.pulse())
			}
		})
	}
	a.after(a.pulse()/5+a.upTo(2*a.pulse()), func() { a.heartbeat(beats) })
}

// cut ends the agent's watch, which the agent notices late.
func (a *agent) cut() {
	a.disconnect()
	a.receive(a.upTo(time.Second), func(now time.Duration) { a.account.markStale(now, errNoNews) })
}

func (a *agent) disconnect() {
	a.watching = false
	a.connections++
}

// connect reads the ledger and the policy, and watches them from then on.
func (a *agent) connect() {
	if !a.reaches() {
		return
	}
	a.watching, a.delivered, a.lanes = true, len(a.store.log), [2]time.Duration{}
	is, connection := a.store, a.connections
	a.receive(a.upTo(20*time.Millisecond), func(now time.Duration) {
		if a.connections != connection {
			return
		}
		startedOver := a.epoch != is.epoch && a.epoch != -1
		fresh := a.epoch == -1
		a.epoch = is.epoch
		if fresh {
			a.account.setPolicy(now, is.policy)
		}
		told := a.Float64() < 0.5 // a range that is added is not told that etcd has started over
		a.account.replaceLedger(now, fmt.Sprint(is.epoch), startedOver && told, is.ledger)
		if startedOver {
			a.account.forgetPolicy()
		}
		a.account.setPolicy(now, is.policy)
		if a.store.epoch == is.epoch {
			a.account.learnLife(now, a.store.epochRevision, a.wallClock())
		}
		a.account.confirm(now, 0, 20*a.pulse())
	})
	a.lanes = [2]time.Duration{a.now + 20*time.Millisecond, a.now + 20*time.Millisecond}
}

// publish sends new changes to the agents that watch. Those of one key arrive in order.
func (s *simulation) publish() {
	for _, a := range s.agents {
		if !a.watching {
			continue
		}
		for _, c := range a.store.log[a.delivered:] {
			lane := &a.lanes[0]
			if c.isLedger {
				lane = &a.lanes[1]
			}
			*lane = max(*lane, a.now+a.lag()) + a.upTo(5*time.Millisecond) + 1
			connection := a.connections
			a.receive(*lane-a.now, func(now time.Duration) {
				switch {
				case a.connections != connection:
				case c.isLedger:
					a.account.setLedger(now, c.ledger)
				default:
					a.account.setPolicy(now, c.policy)
				}
			})
		}
		a.delivered = len(a.store.log)
	}
}

// poke lets the agent buy what its account wants.
func (a *agent) poke() {
	now := a.clock()
	if a.hoards {
		return
	}
	n, again := a.account.nextPurchase(now)
	if n > 0 {
		a.send(a.account.startPurchase(now, n, a.wallClock()))
		return
	}
	if again == never {
		return
	}
	at := a.now + max(time.Microsecond, again-now)
	if a.poked > a.now && a.poked <= at {
		return
	}
	a.poked = at
	a.receive(at-a.now, func(time.Duration) {
		if a.poked == a.now {
			a.poked = 0
		}
	})
}

// send sends a purchase; it or its answer may be lost.
func (a *agent) send(p purchase) {
	starts := a.starts
	delay := a.upTo(10 * time.Millisecond)
	if a.Float64() < a.loss {
		delay = a.upTo(2 * time.Second)
	}
	lost := a.Float64() < a.loss
	a.after(delay, func() {
		var written storedLedger
		ok, failed := false, !a.reaches() || a.starts != starts && a.Float64() < 0.5
		if !failed {
			if written, ok = a.store.commit(p); ok {
				a.publish()
			}
		}
		a.receive(a.lag()+a.upTo(10*time.Millisecond), func(now time.Duration) {
			switch {
			case a.starts != starts:
			case lost || failed:
				a.account.purchaseFailed(now, errNoAnswer)
			case ok:
				a.account.purchaseCommitted(now, p, written)
			default:
				a.account.purchaseLost(now, p)
			}
		})
	})
}

// take takes n tokens and calls decided with the result.
func (a *agent) take(n int64, decided func(takeResult)) {
	now := a.clock()
	if a.now < a.stoppedUntil {
		a.receive(0, func(time.Duration) { a.take(n, decided) })
		return
	}
	r := a.account.take(now, n)
	if r.outcome != queued {
		a.decided(n, r, decided)
		return
	}
	w := waiting{newWaiter(n), decided}
	a.account.enqueue(w.waiter)
	a.waiters = append(a.waiters, w)
	a.poke()
	a.receive(maxWait, func(now time.Duration) {
		if r, ok := a.account.abandon(now, w.waiter); ok {
			w.result <- r
		}
	})
}

func (a *agent) decided(n int64, r takeResult, decided func(takeResult)) {
	switch {
	case r.outcome == granted && a.Float64() < a.returned:
		a.receive(a.upTo(400*time.Millisecond), func(now time.Duration) { a.account.refund(now, n, r.sentAt) })
	case r.outcome == granted:
		a.admit(n)
	}
	decided(r)
}

// admit records that tokens were used.
func (a *agent) admit(n int64) {
	a.admitted = append(a.admitted, admission{a.now, n, a.account.policy.Created})
	a.got += n
}

// collectResults ends the takes that do not wait any more.
func (a *agent) collectResults() {
	was := a.waiters
	a.waiters = nil
	for _, w := range was {
		select {
		case r := <-w.result:
			a.decided(w.n, r, w.decided)
		default:
			a.waiters = append(a.waiters, w)
		}
	}
}

// takeRandomly takes about want tokens a second, or hoards them.
func (a *agent) takeRandomly(want float64) {
	if a.hoards {
		a.hoard()
		a.after(time.Duration(a.ExpFloat64()*float64(20*time.Millisecond)), func() { a.takeRandomly(want) })
		return
	}
	n := int64(1)
	if a.Float64() < 0.1 {
		n += a.Int64N(3)
	}
	if !a.account.exists() || n <= int64(a.account.burst) {
		a.take(n, func(takeResult) {})
	}
	a.after(time.Duration(a.ExpFloat64()/want*float64(time.Second)), func() { a.takeRandomly(want) })
}

// hoard does the worst that an agent may: it buys all tokens that are available, or a part
// of them, and uses them when they are nearly void. It lets those of some purchases become
// void; often nobody buys before that is near.
func (a *agent) hoard() {
	c, now := &a.account, a.clock()
	if a.now < a.stoppedUntil || !c.exists() || c.purchasing || c.stale || now < c.notBefore {
		return
	}
	a.handle(c.expireTokens)
	n := c.available(now)
	if n == 0 || a.now < a.hoardsFrom {
		return
	}
	if a.Float64() < a.divides {
		n = 1 + a.Int64N(n)
	}
	p := c.startPurchase(now, n, a.wallClock())
	a.send(p)
	switch {
	case a.Float64() >= a.wastes:
		a.useLate(p.sentAt)
	case a.Float64() < 0.5:
		a.returnLate(p.sentAt)
	}
	if a.Float64() < 0.5*a.wastes {
		a.hoardsFrom = a.now + c.horizon - a.upTo(c.horizon/4)
	}
}

// useLate uses the tokens of the purchase that was sent at a time when they are nearly void.
func (a *agent) useLate(sentAt time.Duration) {
	a.receive(sentAt+a.account.horizon-a.clock()-time.Duration(2e6*a.Float64()), func(now time.Duration) {
		a.account.expireTokens(now)
		if n := a.account.tokens.remove(sentAt); n > 0 {
			a.admit(n)
		}
	})
}

// returnLate takes the tokens of the purchase that was sent at a time, and returns them, often
// too late to be used.
func (a *agent) returnLate(sentAt time.Duration) {
	a.receive(a.upTo(a.account.horizon), func(now time.Duration) {
		a.account.expireTokens(now)
		if n := a.account.tokens.remove(sentAt); n > 0 {
			a.receive(a.upTo(a.account.horizon), func(now time.Duration) {
				a.account.refund(now, n, sentAt)
				a.useLate(sentAt)
			})
		}
	})
}

// remove removes the tokens of the purchase that was sent at a time, and returns how many.
func (t *tokens) remove(sentAt time.Duration) (n int64) {
	t.batches = slices.DeleteFunc(t.batches, func(b batch) bool {
		if b.sentAt == sentAt {
			n += b.n
		}
		return b.sentAt == sentAt
	})
	t.total -= n
	return n
}
