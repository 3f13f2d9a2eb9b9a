package catalog

import (
	"math/rand/v2"
	"time"

	"disc/discovery/reflector"
)

// maxProgressRate is how often a second the agents of a fleet together ask etcd whether their
// views are current, as long as that leaves each of them sure enough of its own.
const maxProgressRate = 500

// ProgressInterval is how long an agent lets etcd be before it asks whether its view is current:
// the longer the more agents there are, from [follow.DefaultQuiet] up to what is left of
// StaleAfter when an answer takes as long as it may, so that a view is never called stale
// for want of asking. It is up to a fifth shorter by chance, so that agents that began
// together do not ask together.
func (c *Catalog) ProgressInterval() time.Duration {
	most := max(reflector.DefaultProgressInterval, c.options.StaleAfter-reflector.WatchTimeout)
	each := time.Duration(c.agentCount()) * time.Second / maxProgressRate
	d := min(max(each, reflector.DefaultProgressInterval), most)
	return d - rand.N(d/5)
}

// agentCount is how many agents there are, as far as that is known.
func (c *Catalog) agentCount() int {
	if s := c.snapshot(); s != nil && c.subscriptions.whole.Load() {
		return s.NodeCount()
	}
	return int(c.subscriptions.nodeCount.Load())
}
