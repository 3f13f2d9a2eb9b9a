package limit

import (
	"math"
	"time"
)

// drainFactor is the part of the rate at which debts drain. It makes up for clocks that go
// wrong by up to 500 ppm, the most that NTP slews them.
const drainFactor = 0.999

// bucket is an agent's own account of what the fleet has bought lately: a debt that
// grows with each sale that the agent sees and drains with time, kept as the time at
// which it will be drained.
//
// Its times, as all times of this package, are since the host was started
// ([disc/discovery/lease.Uptime]).
//
// # Why a limit is kept
//
// A limit of rate r and burst b has, by [parametersOf], a capacity C, a draining rate ρ and
// a horizon h. Let a sale k be n_k tokens, bought by a transaction that etcd commits at
// c_k in real time. It compares ledger and policy with what the buyer has seen, so the
// sales form a row, c_1 < c_2 < …, and a buyer has seen every sale before its own, and
// the policy that is in force. ρ' = 0.999 ρ is the rate at which an agent drains its
// debt by its own clock. Clocks are right to 500 ppm, so in real time debts drain by no
// more than σ = 1.0005 ρ', and a token is good for no longer than h' = h / 0.9995. Then
// σ < ρ, and σh' = 0.9999995 ρh < ρh.
//
// Lemma 1: all sales of one policy from the i-th to the m-th, S(i,m) for short, are at
// most C + σ(c_m − c_i) tokens. By induction on m: the buyer of sale m sent it at t ≤ c_m,
// when its debt D had D + n_m ≤ C, so it is enough that an agent that has seen the sales
// to the j-th has, at any time t from then on,
//
//	S(i,j) ≤ D + σ(t − c_i) for all i ≤ j.    (*)
//
// Draining keeps (*); a debt never falls below 0. What else changes a debt, at s:
//
//   - It sees sale j+1 and charges it: S and D grow by as much, and s ≥ c_(j+1). Who sees
//     a sale late drains it late.
//   - It has not seen what came before: it was started, was cut off from etcd, or met a
//     ledger that was deleted or went back. It makes its debt C, at least. If the last
//     sale that there is now is the j-th, S(i,j) is by induction at most C + σ(c_j − c_i),
//     and s ≥ c_j.
//   - It sees sale j, and takes over the debt that the ledger has with it, if its own is
//     higher: D_j, that of the buyer with that sale when it sent it, at t_j ≤ c_j ≤ s. The
//     buyer had (*) for what was before, so S(i,j) ≤ D_j + σ(t_j − c_i) ≤ D_j + σ(s − c_i).
//     Else who was started or stood still would owe more than the others for as long as
//     these leave no room, and be sold nothing.
//
// An unknown outcome of a purchase is a sale like others: seen, or not made. The
// comparison is with the ledger's whole value, in which each sale has an id of its own,
// so that it never holds by chance in an etcd that was restored and has lived on.
//
// Theorem: in a window from a to a+W, under one policy, at most b + rW tokens are
// admitted. What is admitted was sold between a − h' and a + W, since a token is not
// admitted before its sale is committed, nor later than h' after it was sent.
//
//   - C = b − rh, ρ = r: by lemma 1 it is at most C + σ(W + h') < b − rh + rW + rh.
//   - C = 1, 1/ρ = 1/r + h: a sale needs the debt to be 0, so sales are one token each
//     and 1/σ > 1/r + h' apart. In W + h' there is one while W < 1/r, and beyond, where
//     (W + h')/(1/r + h') ≤ rW, at most 1 + rW. And b ≥ 1.
//
// A change of policy, at T. Who sees another policy than before sets its debt to
// C + ρH, for the new C and ρ and with H the longest horizon that any policy has; so does
// who meets a policy that nothing was sold of yet, which shows by the ledger's being
// older. So who buys under a new policy has begun with such a debt at or after T or,
// where something was sold already, with C then or later, and has taken over no debt but
// of those who bought under it; by the argument of lemma 1, all sales of a policy up to a
// time x are at most σ(x − T) − ρH: none before T + H, when the last token of the policy
// before is void. Let a window see several policies, and have
// tokens of one that ended at T, the oldest. Of that it has at most b + r(T − a), by the
// theorem, or b if it begins after T: then only what was sold between a − h' and T. Of each
// later one, in force from T_j ≥ T, it has at most r_j for each second after T_j + H; as
// a ≤ T + H, these seconds are in the window. Together: at most the burst of the oldest,
// and the rates in force summed over the window. A limit that was deleted and made again
// is a changed one.
//
// What it rests on: etcd is linearizable, and while it is restored from a backup, which
// takes sales back, it is away for longer than a horizon; an agent that has not heard
// of it for the time of [freshFor] sets its debt to C before it buys again. A host's
// clock runs on while processes are stopped and while the host is suspended
// (CLOCK_BOOTTIME); a virtual machine whose clock is held, too, can admit what is in
// its hand when it goes on: one purchase at most.
type bucket struct {
	parameters
	drainedAt time.Duration // when the debt is drained
}

// charge adds a sale that is seen now.
func (b *bucket) charge(now time.Duration, n int64) {
	b.drainedAt = max(b.drainedAt, now) + b.drainTime(float64(n))
}

// fill makes the debt what it is at most, and beyond that what drains within a time.
func (b *bucket) fill(now, beyond time.Duration) {
	b.drainedAt = max(b.drainedAt, now+b.drainTime(b.capacity)+b.drainTime(b.rate*beyond.Seconds()))
}

// drainTime is how long a debt takes to drain, rounded up.
func (b *bucket) drainTime(tokens float64) time.Duration {
	return time.Duration(math.Ceil(tokens / (b.rate * drainFactor) * float64(time.Second)))
}

// capDebt makes the debt no more than what somebody else has found it to be.
func (b *bucket) capDebt(now time.Duration, debt float64) {
	b.drainedAt = min(b.drainedAt, now+b.drainTime(debt))
}

// debt is what is not drained.
func (b *bucket) debt(now time.Duration) float64 {
	return max(0, b.drainedAt-now).Seconds() * b.rate * drainFactor
}

// available is how many tokens may be bought now.
func (b *bucket) available(now time.Duration) int64 {
	return int64(max(0, math.Floor(b.capacity-b.debt(now))))
}

// availableAt is since when, or from when on, there is room for n tokens; n is at most the
// capacity.
func (b *bucket) availableAt(n int64) time.Duration {
	return b.drainedAt - time.Duration((b.capacity-float64(n))/(b.rate*drainFactor)*float64(time.Second))
}
