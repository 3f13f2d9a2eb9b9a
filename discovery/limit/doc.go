// Package limit enforces fleet-wide rate limits: 1 a second means 1 a second for the
// whole fleet, never more, whatever dies.
//
//	limits, err := limit.New(client, keys, limit.Options{})
//	go limits.Run(ctx)
//	decision, err := limits.Take(ctx, "sms", 1)
//
// In etcd a limit has a policy and a ledger. The ledger is one key that counts the tokens
// ever sold. An agent buys a batch of tokens with a transaction that compares ledger and
// policy with what the agent has seen. The tokens are good for a horizon, which begins
// when the purchase is sent; then they are void, and the agent gives them back. Each agent
// watches the ledger, replays every sale into a token bucket of its own, and buys only what
// the bucket allows. So no agent can sell the fleet more than the limit, and an agent that
// dies takes no more with it than what it had bought. The proof that this keeps the limit
// stands beside bucket.
//
// An agent decides a take from memory: it grants the take from tokens that it has bought,
// or denies it when the bucket has no room. Purchases follow the demand. A fleet makes a
// few dozen a second for each limit, however many agents it has: after a sale each agent
// waits for a random time, below a bound that grows with the number of agents that buy;
// an agent that sees another sale meanwhile draws a new time.
//
// An account is pure: functions of a state and a time. A purchaser does the I/O of one
// limit.
package limit
