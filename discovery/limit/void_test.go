package limit

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/retry/retrytest"
)

// written returns the ledger as a purchase writes it.
func written(p purchase) storedLedger {
	return storedLedger{ledger: p.nextLedger, value: p.nextLedger.Sale, createRevision: 1, modRevision: p.seenLedger.modRevision + 1}
}

// An agent gives back tokens that it bought and that are void, once, but not while its debt
// may lack the sale. If it has seen other sales since then, it gives back less: what the
// rate gave until the last one is theirs.
func TestVoidTokensAreGivenBack(t *testing.T) {
	const n, rate = 10, 20
	const sent = time.Hour
	const answered, late = sent + 10*time.Millisecond, sent + 300*time.Millisecond
	type events func(a *account, p purchase)
	inTime := func(a *account, p purchase) { a.purchaseCommitted(answered, p, written(p)) }
	for name, c := range map[string]struct {
		happen events
		seen   time.Duration // when the sale was seen
		want   float64       // what is given back
	}{
		"answered late": {func(a *account, p purchase) { a.purchaseCommitted(late, p, written(p)) }, late, n},
		"seen and answered late": {func(a *account, p purchase) {
			a.setLedger(late, written(p))
			a.purchaseCommitted(late, p, written(p))
		}, late, n},
		"not answered": {func(a *account, p purchase) {
			a.purchaseFailed(answered, errNoAnswer)
			a.setLedger(late, written(p))
		}, late, n},
		"not answered, seen when another was sent": {func(a *account, p purchase) {
			a.purchaseFailed(answered, errNoAnswer)
			a.startPurchase(answered+1, 2, time.Time{})
			a.setLedger(late, written(p))
		}, late, n},
		"not answered, seen when another was lost": {func(a *account, p purchase) {
			a.purchaseFailed(answered, errNoAnswer)
			second := a.startPurchase(answered+1, 2, time.Time{})
			a.purchaseLost(answered+2, second)
			a.setLedger(late, written(p))
		}, late, n},
		"not answered, seen when two more were not answered": {func(a *account, p purchase) {
			a.purchaseFailed(answered, errNoAnswer)
			for range 2 {
				a.startPurchase(answered+1, 2, time.Time{})
				a.purchaseFailed(answered+2, errNoAnswer)
			}
			a.setLedger(late, written(p))
			a.setLedger(late, written(p))
		}, late, n},
		"not answered, another was made": {func(a *account, p purchase) {
			a.purchaseFailed(answered, errNoAnswer)
			second := a.startPurchase(answered+1, n, time.Time{})
			a.purchaseCommitted(late, second, written(second))
			if len(a.unanswered) > 0 {
				panic("a purchase that lost its compare is still awaited")
			}
		}, late, n},
		"not used": {func(a *account, p purchase) {
			inTime(a, p)
			a.take(late, 1)
			a.take(late, 1)
		}, answered, n},
		"not used, another sale since": {func(a *account, p purchase) {
			inTime(a, p)
			a.setLedger(answered, sold(n, unknownDebt, 1, 3))
			a.take(late, 1)
		}, answered, n - rate*(answered-sent).Seconds()},
		"one was used": {func(a *account, p purchase) {
			inTime(a, p)
			a.take(answered, 1)
			a.take(late, 1)
		}, answered, n - 1},
		"returned late": {func(a *account, p purchase) {
			inTime(a, p)
			r := a.take(answered, n)
			a.refund(late, n, r.sentAt)
		}, answered, n},
		"returned in time, then void": {func(a *account, p purchase) {
			inTime(a, p)
			r := a.take(answered, n)
			a.refund(answered, n, r.sentAt)
			a.take(late, 1)
		}, answered, n},
		"all were used": {func(a *account, p purchase) {
			inTime(a, p)
			a.take(answered, n)
			a.take(late, 1)
		}, answered, 0},
		"returned late, of a sale that was seen and one that was not": {func(a *account, p purchase) {
			inTime(a, p)
			second := a.startPurchase(answered, 2, time.Time{})
			a.markStale(answered, errNoNews)
			a.purchaseCommitted(answered+1, second, written(second))
			r := a.take(answered+1, n+2)
			a.refund(late, n+2, r.sentAt)
		}, answered, 0},
		"seen after the answer, void before": {func(a *account, p purchase) {
			a.markStale(answered, errNoNews)
			inTime(a, p)
			a.take(late-1, 1)
			a.setLedger(late, written(p))
		}, late, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(sent)
			p := a.startPurchase(sent, n, time.Time{})
			c.happen(&a, p)
			wantDebt(t, &a, late, n-rate*drainFactor*(late-c.seen).Seconds()-c.want)
			if a.uncapped != a.owed {
				t.Errorf("the uncapped debt is %v, the debt %v", a.uncapped, a.owed)
			}
		})
	}
}

// What was bought under an earlier policy, or before sales were missed, is not given back,
// and cannot be taken again.
func TestNothingIsGivenBackAfterAChange(t *testing.T) {
	const sent = time.Hour
	const answered, late = sent + 10*time.Millisecond, sent + 300*time.Millisecond
	for name, change := range map[string]func(a *account, now time.Duration){
		"another policy": func(a *account, now time.Duration) {
			a.setPolicy(now, Policy{Limit: policy(1, 30), Created: 1, Revision: 5})
		},
		"a deleted ledger": func(a *account, now time.Duration) { a.setLedger(now, storedLedger{}) },
		"another life": func(a *account, now time.Duration) {
			a.replaceLedger(now, "another", true, sold(5, 5, 1, 2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(sent)
			p := a.startPurchase(sent, 10, time.Time{})
			a.purchaseCommitted(answered, p, written(p))
			r := a.take(answered, 10)
			change(&a, answered)
			want := a.debt(late)
			other := a
			a.refund(late, 10, r.sentAt)
			wantDebt(t, &a, late, want)
			if other.refund(answered, 10, r.sentAt); other.tokens.total != 0 {
				t.Errorf("%d of the returned tokens can be taken", other.tokens.total)
			}
		})
	}
}

// A take whose purchase was answered too late waits for another one. If that is late, too,
// it is told so.
func TestTakeWaitsBeyondALateAnswer(t *testing.T) {
	const now = time.Hour
	a := newAccount("a")
	a.setPolicy(now, Policy{Limit: policy(1.0/60, 3), Created: 1, Revision: 1})
	a.setLedger(now, opened)
	a.learnLife(now, 0, time.Time{})
	a.confirm(now, now, time.Minute)
	if r := a.take(now, 2); r.outcome != queued {
		t.Fatalf("the take: %v, want it queued", r.outcome)
	}
	w := newWaiter(2)
	a.enqueue(w)
	p := a.startPurchase(now, 2, time.Time{})
	late := now + 700*time.Millisecond
	a.purchaseCommitted(late, p, written(p))
	if len(w.result) != 0 {
		t.Fatalf("the take after a late answer: %v, want it still queued", (<-w.result).outcome)
	}
	_, again := a.nextPurchase(late)
	if n, _ := a.nextPurchase(again); n != 2 || again > late+20*time.Millisecond {
		t.Fatalf("the next purchase is of %d, %v after the late answer; want 2 at once", n, again-late)
	}
	p = a.startPurchase(again, 2, time.Time{})
	if math.Abs(p.nextLedger.Debt-2) > 0.02 {
		t.Errorf("the next sale has the debt %v, want 2", p.nextLedger.Debt)
	}
	r, ok := a.abandon(now+maxWait, w)
	d := a.decision(now+maxWait, r.outcome, 2)
	if !ok || !d.Unavailable || !strings.Contains(d.Cause.Error(), "etcd took 700ms to answer a purchase of tokens, which are good for 500ms") {
		t.Errorf("the take when it has waited for long: %+v, %v", d, d.Cause)
	}
	a.purchaseCommitted(again+10*time.Millisecond, p, written(p))
	if r := a.take(again+20*time.Millisecond, 2); r.outcome != granted {
		t.Errorf("a take after an answer in time: %v, want it granted", r.outcome)
	}
}

// Answers that come too late cost the fleet nothing of a slow limit.
func TestLateAnswersLoseNoTokens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		s := newSimulation(seed, 2, policy(1.0/3600, 3))
		s.loss = 0
		one, two := s.agents[0], s.agents[1]
		s.run(s.now+time.Second, forever)
		one.slow, one.slowUntil = 800*time.Millisecond, s.now+time.Second
		take := func(a *agent, n int64) (got outcome) {
			a.take(n, func(r takeResult) { got = r.outcome })
			s.run(s.now+2*maxWait, forever)
			return got
		}
		first := take(one, 2)
		if first == late {
			first = take(one, 2)
		}
		if second := take(two, 1); first != granted || second != granted || s.late == 0 {
			t.Errorf("history %d: %d late answers; the takes of 2 and 1 of 3 tokens: %v, %v, want both granted", seed, s.late, first, second)
		}
	}
}

// A take is granted although etcd answered its purchase too late, from another one.
func TestLateAnswerOfEtcd(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := etcdtest.StartLink(t, server.Endpoint())
	direct, l := start(t, etcdtest.Client(t, server.Endpoint())), start(t, etcdtest.Client(t, link.Endpoint()))
	attempt := 0
	retrytest.Succeeds(t, func() error { // a slow machine may need another limit
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		attempt++
		name := fmt.Sprint("api-", attempt)
		mustPut(t, direct, name, policy(0.001, 4))
		if d, err := l.Take(ctx, name, 1); err != nil || !d.Granted {
			return fmt.Errorf("the first take from %s: %+v, %w", name, d, err)
		}
		link.HoldAnswers()
		p := (*l.purchasers.Load())[name]
		go func() {
			awaitVoidPurchase(ctx, p)
			link.Mend()
		}()
		if d, err := l.Take(ctx, name, 2); err != nil || !d.Granted {
			return fmt.Errorf("the take from %s that etcd answered late: %+v, %w", name, d, err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.account.answerTime == 0 {
			return fmt.Errorf("etcd answered the purchases of %s in time", name)
		}
		return nil
	})
}

// Tokens are not lost whose purchase etcd made without an answer in time, although more purchases
// were sent before it is seen.
func TestUnansweredPurchasesLoseNoTokens(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := etcdtest.StartLink(t, server.Endpoint())
	direct, l := start(t, etcdtest.Client(t, server.Endpoint())), start(t, etcdtest.Client(t, link.Endpoint()))
	mustPut(t, direct, "api", policy(0.001, 2))
	mustTake(t, l, "api", 1)
	p := (*l.purchasers.Load())["api"]
	sent := func() int64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.account.purchaseCount
	}
	before := sent()
	link.HoldAnswers()
	retrytest.Eventually(t, "a second purchase is sent while the first is not answered", func() bool {
		if d, err := l.Take(t.Context(), "api", 1); err != nil || d.Granted {
			t.Fatalf("a take while etcd does not answer: %+v, %v", d, err)
		}
		return sent() >= before+2
	})
	link.Mend()
	retrytest.Eventually(t, "the token of the first is taken", func() bool {
		d, err := l.Take(t.Context(), "api", 1)
		return err == nil && d.Granted
	})
}

// awaitVoidPurchase returns when the tokens of a pending purchase are void, or ctx ends.
func awaitVoidPurchase(ctx context.Context, p *purchaser) {
	void := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.account.purchasing && lease.Uptime() > p.account.pending.sentAt+p.account.horizon
	}
	for !void() && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
}

// TestTakeWaitsForTheLock takes tokens that are void when the take can look at them, as after a pause of the
// process.
func TestTakeWaitsForTheLock(t *testing.T) {
	t.Parallel()
	l := startAlone(t)
	putSlow(t, l, "slow")
	p := (*l.purchasers.Load())["slow"]
	p.mu.Lock()
	sentAt := lease.Uptime()
	p.account.tokens.clear()
	p.account.tokens.add(1, sentAt)
	taken := make(chan discovery.Decision, 1)
	go func() {
		d, _, err := p.take(t.Context(), 1)
		if err != nil {
			t.Error(err)
		}
		taken <- d
	}()
	time.Sleep(p.account.horizon + 10*time.Millisecond)
	p.mu.Unlock()
	if d := <-taken; d.Granted {
		t.Errorf("a token that was void is granted: %+v", d)
	}
}
