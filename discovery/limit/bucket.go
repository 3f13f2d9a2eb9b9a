package limit

import (
	"math"
	"time"
)

const (
	// drainFactor is the part of the rate at which debts drain. It makes up for clocks that
	// are wrong by up to 500 ppm, the most by which NTP slews them.
	drainFactor = 0.999

	// wallClockError is the most by which two hosts' wall clocks differ, as far as slow
	// limits rest on them.
	wallClockError = 30 * time.Second
)

// bucket is a token bucket: one agent's account of what the fleet has bought lately, as a
// debt. The debt grows with each sale that the agent sees and drains with time. A debt that
// has been drained for a time is negative.
//
// Its times, as all times of this package, count from the start of the host
// ([disc/discovery/lease.Uptime]).
//
// # Why a limit is kept
//
// A limit of rate r and burst b has, by [parametersOf], a horizon h and a capacity
// C = b − rh. An agent drains its debt at the rate ρ = 0.999 r by its own clock. Clocks are
// right to 500 ppm. So in real time a debt drains at the rate σ = 1.0005 ρ at most, and a
// token is good for h' = h / 0.9995 at most. Then σ < r, and σh' = 0.9999995 ρh < rh.
//
// Sale k is of n_k tokens, bought by a transaction that etcd commits at the real time c_k.
// The transaction compares ledger and policy with what the purchaser has seen. So the
// sales are a sequence, c_1 < c_2 < …, and the purchaser of each has seen every sale
// before it, and the policy in force. A purchaser with the debt D buys n tokens only if
// n ≤ b and D + n ≤ C. An agent gives back tokens of its own sales that are void and were
// not admitted, each once. S(i,m) is the number of tokens in the sales i to m, without
// those that any agent has given back so far; so it falls with time.
//
// Lemma 1: if the sales i to m are of one policy, S(i,m) ≤ C + σ(c_m − c_i) for i < m, and
// S(m,m) ≤ b.
//
// The second is a rule for purchases. The first is shown by induction on m. The purchaser
// of sale m sent it at a time t ≤ c_m, when D + n_m ≤ C. So it is enough that an agent that
// has seen the sales up to the j-th has, at any time t from then on,
//
//	S(i,j) ≤ D + σ(t − c_i) for all i ≤ j.    (*)
//
// Draining keeps (*), also below 0, and so does what others give back. Five other events
// change a debt, at a time s:
//
//   - The agent sees n tokens in the sales j+1 to k, one by one or, after its watch broke,
//     by the ledger's count of all tokens. It sets D to max(D, 0) + n. S and D grow by the
//     same number, and s ≥ c_k. An agent that sees a sale late drains it late.
//   - The agent has not seen the sales before: it was started, or met a ledger that was
//     deleted or went back. It sets its debt to b, at least. If the last sale that exists
//     now is the j-th, S(i,j) is by induction at most b + σ(c_j − c_i), and s ≥ c_j.
//   - The agent sees sale j and takes over the debt that the ledger gives with it, if its
//     own is higher. That debt, D_j, is the purchaser's with the sale, when it sent it at
//     t_j ≤ c_j ≤ s. The purchaser had (*) for the sales before, so
//     S(i,j) ≤ D_j + σ(t_j − c_i) ≤ D_j + σ(s − c_i). A new limit's ledger is written with
//     it and says that nothing was sold; then (*) holds for any debt.
//   - The limit is slower than [slowRate], and the ledger gives with D_j the wall clock's
//     time of t_j. If by this host's wall clock that is x ago, it is x − 30 s ago at least,
//     and the agent takes over D_j − ρ(x − 30 s).
//   - The agent gives back k tokens, the first of which are of sale l ≤ j. Let x be the time
//     by its clock from when it sent sale l until it saw sale j, or 0 if l = j. It sets D to
//     D − max(0, k − rx). Then S(i,j) falls by k for i ≤ l. For i > l, S(i,j) is now at most
//     what S(l,j) was, less k: at most D − k + σ(s − c_l) = D − k + σ(c_i − c_l) + σ(s − c_i).
//     And σ(c_i − c_l) ≤ σ(c_j − c_l) ≤ rx.
//
// A purchase with an unknown outcome is a sale like any other, which is seen, or was not
// made. The transaction compares the ledger's whole value, in which each sale has an id of
// its own, so that it does not succeed by chance in an etcd that was restored and has
// lived on.
//
// Theorem: in a window from a to a+W, under one policy, at most b + rW tokens are
// admitted.
//
// A token is admitted after its sale is committed, and no later than h' after it was sent.
// So the tokens admitted in the window were sold between a − h' and a + W, and are never
// given back. If that is one sale, it has at most b tokens. If it is several, they have by
// lemma 1 at most C + σ(W + h') < b − rh + rW + rh = b + rW.
//
// # Changes of policy
//
// Let A(a,t) be the number of tokens that were sold by t, under any policy, were not given
// back by then, and can be admitted at a or later. Besides D, an agent has an uncapped debt
// U, which is charged, drained and lowered for what is given back as D is. Under a policy
// with r, h, b and C, any agent that has seen all sales has for each a ≤ t, unless A(a,t)
// is 0,
//
//	A(a,t) ≤ U + rh + ∫r,                   (1)
//	A(a,t) ≤ B − C + min(D, C) + ∫r.        (2)
//
// ∫r is the rate in force summed from a to t, and B the largest burst of the policies in
// force in that time or, since their tokens may still be good, up to a second before it. A
// purchase of n has D + n ≤ C, or is the only sale that counts and n ≤ b. So by (2)
// A(a,t) ≤ B + ∫r after it, and that is the promise over changes: in any window, the
// largest burst and the rates in force.
//
// Under one policy U = D, and (1) is (*) with the horizon: what can be admitted at a was
// sold after a − h'. (2) is the same, since C = b − rh, or the theorem where D > C.
//
// Let an agent see at s that a policy with r1 and h1 was replaced at some T ≤ s, after it
// last knew at c ≤ T that it was in force. Let v be so long that the tokens of earlier
// policies are void at s + v. The agent sets
//
//	X = max(U, 0) + r1(s − c) + r1 h1,   U' = X + rv,   D' = min(X, b) + rv.
//
// By (1), A(a,s) ≤ X + ∫r for a ≤ s: the second term gives back what may have drained too
// fast. Tokens of the earlier policies are not given back from now on. Let the agent see S
// tokens sold under the new policy by t, and not given back. Then
// U'(t) ≥ X + rv + S − r(t − s): k tokens that are given back lower S by k, and U' by no
// more. For a ≤ s this is (1). For a up to s + v, what counts is no more than for s, so
// A(a,t) ≤ X + S ≤ U'(t) + r(t − s − v), which is (1) too. For a later a only tokens of the
// new policy count, and (1) is (*). If X ≤ b then U' = D' at first, and (2) follows as (1)
// does, or from (2) before where D' > C, since then nothing is sold. If X > b, likewise
// S ≤ D'(t) − b − rv + r(t − s), on top of what (2) allowed before.
//
// An agent that was started, or has missed a policy and does not know U, has U' = ∞ and
// D' = b + rH, where H is the longest horizon that any policy has. That is the case X > b.
// A limit that is deleted and made again is another limit.
//
// # Why a limit makes progress
//
// The longest debt is b + rH. So at most h + H + 1/ρ after an agent that can reach etcd was
// started, has seen a change or came back, its debt leaves room for one token, if nothing is
// sold meanwhile. What it knows survives breaks of its watch, and idleness: the
// bucket is kept when the limit's watch ends. A limit slower than [slowRate] also survives
// that all agents are restarted at once, by the wall clock. The Retry-After of a denial is
// the earliest time at which there is room, plus up to a tenth of a token's time at random.
// TestEverybodyGetsAToken simulates it.
//
// Tokens whose purchase etcd answers after h are void at once. They are given back, and
// bought again while the take waits. Where etcd always takes longer than h, nobody gets a
// token, and takes say so.
//
// # What the proof rests on
//
//   - etcd is linearizable. A restore takes longer than a token is good.
//   - A restore from a backup, which takes sales back, is found out before an agent buys
//     again: by the agent itself, or by another that begins a new life (package life). A
//     purchase compares the epoch. An agent in a new life knows nothing. One that was
//     started takes over a ledger only if it was written in the present life, and in no
//     quarantine.
//   - A host's clock runs on while processes are stopped and while the host is suspended
//     (CLOCK_BOOTTIME). A virtual machine whose clock is held, too, can admit the tokens
//     that it has when it goes on: those of one purchase at most.
//   - Of limits slower than [slowRate]: wall clocks are right to 30 s.
type bucket struct {
	parameters
	owed        debt          // D
	uncapped    debt          // U; its tokens may be infinite
	coveredFrom time.Duration // the debts may lack sales that were sent before; or those are of another policy
	chargedAt   time.Duration // when the last sale was seen
}

// debt is a number of tokens that drains.
type debt struct {
	tokens float64
	at     time.Duration
}

// after returns what is left of a debt, and below 0 what more would have drained.
func (d debt) after(now time.Duration, rate float64) float64 {
	return d.tokens - rate*drainFactor*(now-d.at).Seconds()
}

// openBucket returns the bucket of a policy whose sales are not known. extra is how long
// tokens of an earlier policy may still be good.
func openBucket(now time.Duration, p parameters, extra time.Duration) bucket {
	full := debt{p.burst + p.rate*extra.Seconds(), now}
	return bucket{parameters: p, owed: full, uncapped: full, coveredFrom: now}
}

// charge adds the sales of n tokens that are seen now.
func (b *bucket) charge(now time.Duration, n int64) {
	for _, d := range []*debt{&b.owed, &b.uncapped} {
		*d = debt{max(0, d.after(now, b.rate)) + float64(n), now}
	}
	b.chargedAt = now
}

// giveBack lowers the debts for n tokens of this agent that are void and were not admitted.
// The first of their sales was sent at a time; isLast says that it is the last sale that was
// seen. It does nothing if the debts may lack a sale.
func (b *bucket) giveBack(n int64, sentAt time.Duration, isLast bool) {
	if sentAt < b.coveredFrom || sentAt >= b.chargedAt {
		return
	}
	tokens := float64(n)
	if !isLast {
		tokens = max(0, tokens-b.rate*(b.chargedAt-sentAt).Seconds())
	}
	b.owed.tokens -= tokens
	b.uncapped.tokens -= tokens
}

// fill raises the debt to at least the burst, since there may be sales that were not seen.
// void is the time until the tokens of earlier policies are void.
func (b *bucket) fill(now, void time.Duration) {
	b.owed = debt{max(b.burst+b.rate*void.Seconds(), b.debt(now)), now}
	b.coveredFrom = now
	b.forgetEarlier(now)
}

// forgetEarlier records that sales under earlier policies may not have been seen.
func (b *bucket) forgetEarlier(now time.Duration) { b.uncapped = debt{math.Inf(1), now} }

// capDebt lowers the debt to at most the debt that another agent has found.
func (b *bucket) capDebt(now time.Duration, tokens float64) {
	b.owed = debt{min(tokens, b.debt(now)), now}
}

// change replaces the parameters, which may have been replaced up to lag ago. void is the
// time until the tokens of earlier policies are void.
func (b *bucket) change(now time.Duration, to parameters, lag, void time.Duration) {
	owed := max(0, b.uncapped.after(now, b.rate)) + b.rate*(lag+b.horizon).Seconds()
	extra := to.rate * void.Seconds()
	*b = bucket{parameters: to, owed: debt{min(owed, to.burst) + extra, now}, uncapped: debt{owed + extra, now}, coveredFrom: now}
}

// debt returns the debt now, in tokens.
func (b *bucket) debt(now time.Duration) float64 { return b.owed.after(now, b.rate) }

// available returns how many tokens may be bought now.
func (b *bucket) available(now time.Duration) int64 {
	return int64(math.Floor(max(0, min(b.burst, b.capacity-b.debt(now)))))
}

// availableIn returns the time until n tokens are available; n ≤ burst. It is below 0 if
// they are.
func (b *bucket) availableIn(now time.Duration, n int64) time.Duration {
	return seconds((b.debt(now) - b.capacity + float64(n)) / (b.rate * drainFactor))
}
