// Package limit keeps fleet-wide rate limits: 1 a second means 1 a second for the whole
// fleet, never more, whatever dies.
//
//	limits, err := limit.New(client, keys, limit.Options{})
//	go limits.Run(ctx)
//	decision, err := limits.Take(ctx, "sms", 1)
//
// Underneath is a ledger: one key of a limit counts the tokens that were ever sold. An
// agent buys a batch with a transaction that compares ledger and policy with what it has
// seen. Tokens are good for a horizon after the purchase was sent, then void. Each agent
// watches the ledger, replays every sale into an account of its own, and buys only what
// that allows; so no agent can sell the fleet more than the limit, and none that dies
// takes more with it than what it had bought. Why that keeps the limit is proved beside
// bucket.
//
// A take is decided from memory: granted from what was bought, or denied when the account
// has no room. Purchases follow the demand, and are made a few dozen times a second by
// however many agents: after a sale each waits for a random part of a time that grows
// with the number of those who buy, and who sees another sale meanwhile draws again.
//
// account is pure, functions of a state and a time; buyer has the I/O of one limit.
package limit
