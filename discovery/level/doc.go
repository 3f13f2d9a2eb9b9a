// Package level keeps the feature level of a namespace, the key [discovery.Keys.Level]: the level
// that all its agents can read.
//
//	l := level.New(client, keys, level.Options{Changed: life.Count})
//	go l.Run(ctx)
//	if l.Allows(discovery.LevelJournal) { ... }
//
// # How it rises
//
// One agent of the fleet checks at a time: it holds a key on a lease, which keeps the others from
// checking for a while. It reads the records of all agents. A check is clean if no agent is below
// the next level. The level rises after [cleanChecks] clean checks in a row, so that an agent which
// was stopped for some hours, or an upgrade that is undone, finds what it can read. The count begins again
// when no check comes for half an hour, and in a new life of etcd. Leases time the checks: no clocks
// of hosts are compared.
//
// The checks are samples: an agent that starts and stops between two of them is not seen.
//
// A namespace is new for the agent that writes its first epoch, where no agent has a record. It then
// begins with the level of that agent: see [First].
//
// # What it costs
//
// Each agent reads four small keys every four to five minutes: of 10,000 agents that makes some 40
// reads a second. One of them reads all records of agents every ten minutes while the level is to
// rise, else every hour, and writes one key where something has changed, and two on leases.
package level
