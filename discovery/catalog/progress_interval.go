package catalog

import (
	"math/rand/v2"
	"time"

	"disc/discovery/reflector"
)

// maxProgressRate is the number of times a second that all agents of a fleet together ask
// etcd whether their views are current. A short StaleAfter may force a higher rate.
const maxProgressRate = 500

// ProgressInterval returns the time until the agent next asks etcd whether its view is
// current. It grows with the number of agents, from [reflector.DefaultProgressInterval] up
// to StaleAfter less [reflector.WatchTimeout], so that a view never turns stale only
// because nobody asked. A random part of up to a fifth is subtracted, so that agents that
// started together do not ask together.
func (c *Catalog) ProgressInterval() time.Duration {
	maxInterval := max(reflector.DefaultProgressInterval, c.options.StaleAfter-reflector.WatchTimeout)
	share := time.Duration(c.agentCount()) * time.Second / maxProgressRate
	d := min(max(share, reflector.DefaultProgressInterval), maxInterval)
	return d - rand.N(d/5)
}

// agentCount returns the number of agents, as far as it is known.
func (c *Catalog) agentCount() int {
	if s := c.state.Load(); s != nil && s.whole {
		return s.snapshot.NodeCount()
	}
	return int(c.subscriptions.nodeCount.Load())
}
