package limit

import (
	"math"
	"time"
)

// drainFactor is the part of the rate at which debts drain. It makes up for clocks that
// are wrong by up to 500 ppm, the most by which NTP slews them.
const drainFactor = 0.999

// bucket is a token bucket: one agent's account of what the fleet has bought lately, as a
// debt. The debt grows with each sale that the agent sees and drains with time. It is kept
// as the time at which it will be drained.
//
// Its times, as all times of this package, count from the start of the host
// ([disc/discovery/lease.Uptime]).
//
// # Why a limit is kept
//
// A limit of rate r and burst b has, by [parametersOf], a capacity C, a draining rate ρ
// and a horizon h. An agent drains its debt at the rate ρ' = 0.999 ρ by its own clock.
// Clocks are right to 500 ppm. So in real time a debt drains at the rate σ = 1.0005 ρ' at
// most, and a token is good for h' = h / 0.9995 at most. Then σ < ρ, and
// σh' = 0.9999995 ρh < ρh.
//
// Sale k is of n_k tokens, bought by a transaction that etcd commits at the real time c_k.
// The transaction compares ledger and policy with what the purchaser has seen. So the
// sales are a sequence, c_1 < c_2 < …, and the purchaser of each has seen every sale
// before it, and the policy in force. S(i,m) is the number of tokens in the sales i to m.
//
// Lemma 1: if the sales i to m are of one policy, S(i,m) ≤ C + σ(c_m − c_i).
//
// The proof is by induction on m. The purchaser of sale m sent it at a time t ≤ c_m, when
// its debt D had D + n_m ≤ C. So it is enough that an agent that has seen the sales up to
// the j-th has, at any time t from then on,
//
//	S(i,j) ≤ D + σ(t − c_i) for all i ≤ j.    (*)
//
// Draining keeps (*), and a debt never falls below 0. Three other events change a debt, at
// a time s:
//
//   - The agent sees sale j+1 and charges it. S and D grow by the same number, and
//     s ≥ c_(j+1). An agent that sees a sale late drains it late.
//   - The agent has not seen the sales before: it was started, was cut off from etcd, or
//     met a ledger that was deleted or went back. It sets its debt to C, at least. If the
//     last sale that exists now is the j-th, S(i,j) is by induction at most
//     C + σ(c_j − c_i), and s ≥ c_j.
//   - The agent sees sale j and takes over the debt that the ledger gives with it, if its
//     own is higher. That debt, D_j, is the purchaser's with the sale, when it sent it at
//     t_j ≤ c_j ≤ s. The purchaser had (*) for the sales before, so
//     S(i,j) ≤ D_j + σ(t_j − c_i) ≤ D_j + σ(s − c_i). Without this an agent that was
//     started or stood still would owe more than the others for as long as they leave no
//     room, and could buy nothing.
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
// So the tokens admitted in the window were sold between a − h' and a + W. A limit has one
// of two kinds of parameters:
//
//   - C = b − rh and ρ = r. By lemma 1 at most C + σ(W + h') < b − rh + rW + rh = b + rW
//     tokens are sold.
//   - C = 1 and 1/ρ = 1/r + h. A sale needs a debt of 0, so sales are of one token each
//     and 1/σ > 1/r + h' apart. In a time of W + h' there is one sale if W < 1/r. If
//     W ≥ 1/r there are at most 1 + (W + h')/(1/r + h') ≤ 1 + rW. And b ≥ 1.
//
// # Changes of policy
//
// Let a policy begin at T, and H be the longest horizon that any policy has. An agent that
// sees another policy than before sets its debt to C + ρH, at least, for the new C and ρ.
// So does an agent that may have missed sales and finds a policy of which nothing was sold
// yet (the ledger is then older than the policy). So each agent that buys under the policy
// has begun with such a debt at or after T; or, where something was sold already, with C
// then or later. It has taken over debts only of agents that bought under the policy. By the
// argument of lemma 1 all sales of the policy up to a time x are at most σ(x − T) − ρH:
// none before T + H, when the last token of the policy before is void.
//
// Let a window see several policies, and let it have tokens of one that ended at T, the
// oldest. Of this policy the window has at most b + r(T − a), by the theorem; or b if it
// begins after T, since these tokens were sold between a − h' and T. Of each later policy,
// in force from T_j ≥ T, the window has at most r_j for each second after T_j + H. Since
// a ≤ T + H, these seconds are in the window. Together that is at most the burst of the
// oldest policy, and the rates in force summed over the window. A limit that was deleted
// and made again is a changed one.
//
// # What the proof rests on
//
//   - etcd is linearizable. While etcd is restored from a backup, which takes sales back,
//     it is away for longer than a horizon.
//   - An agent that has had no news of etcd for [freshFor] sets its debt to C before it
//     buys again.
//   - A host's clock runs on while processes are stopped and while the host is suspended
//     (CLOCK_BOOTTIME). A virtual machine whose clock is held, too, can admit the tokens
//     that it has when it goes on: those of one purchase at most.
type bucket struct {
	parameters
	drainedAt time.Duration // when the debt is 0
}

// charge adds a sale of n tokens that is seen now to the debt.
func (b *bucket) charge(now time.Duration, n int64) {
	b.drainedAt = max(b.drainedAt, now) + b.drainTime(float64(n))
}

// fill raises the debt to at least capacity + rate × extra.
func (b *bucket) fill(now, extra time.Duration) {
	b.drainedAt = max(b.drainedAt, now+b.drainTime(b.capacity)+b.drainTime(b.rate*extra.Seconds()))
}

// drainTime returns how long a debt of some tokens takes to drain, rounded up.
func (b *bucket) drainTime(tokens float64) time.Duration {
	return time.Duration(math.Ceil(tokens / (b.rate * drainFactor) * float64(time.Second)))
}

// capDebt lowers the debt to at most the debt that another agent has found.
func (b *bucket) capDebt(now time.Duration, debt float64) {
	b.drainedAt = min(b.drainedAt, now+b.drainTime(debt))
}

// debt returns the debt now, in tokens.
func (b *bucket) debt(now time.Duration) float64 {
	return max(0, b.drainedAt-now).Seconds() * b.rate * drainFactor
}

// available returns how many tokens may be bought now.
func (b *bucket) available(now time.Duration) int64 {
	return int64(max(0, math.Floor(b.capacity-b.debt(now))))
}

// availableAt returns when n tokens become (or became) available; n ≤ capacity.
func (b *bucket) availableAt(n int64) time.Duration {
	return b.drainedAt - time.Duration((b.capacity-float64(n))/(b.rate*drainFactor)*float64(time.Second))
}
