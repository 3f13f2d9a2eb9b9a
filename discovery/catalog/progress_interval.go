package catalog

import (
	"math/rand/v2"
	"time"

	"disc/discovery/reflector"
)

// maxProgressRate is the number of times a second that all agents of a fleet together ask
// etcd whether their views are current. A short StaleAfter may force a higher rate.
const maxProgressRate = 500

// maxKeyRate is the number of keys a second that etcd looks at for all agents of a fleet together, to
// show those behind its grpc-proxy that their views are current. A short StaleAfter may force a higher
// rate.
const maxKeyRate = 200_000

// ProgressInterval returns the time until the agent next asks etcd whether its view is
// current. It grows with the number of agents, from [reflector.DefaultProgressInterval] up
// to StaleAfter less [reflector.WatchTimeout], so that a view never turns stale only
// because nobody asked. A random part of up to a fifth is subtracted, so that agents that
// started together do not ask together.
func (c *Catalog) ProgressInterval() time.Duration {
	return c.shareOf(float64(c.agentCount()) / maxProgressRate)
}

// ProofInterval returns the time until the agent next asks etcd, through its grpc-proxy, whether a view
// of so many keys is current. It has the same bounds as that of [Catalog.ProgressInterval].
func (c *Catalog) ProofInterval(keys int64) time.Duration {
	return c.shareOf(float64(c.agentCount()) * float64(keys) / maxKeyRate)
}

// shareOf returns an interval of so many seconds, within the bounds.
func (c *Catalog) shareOf(seconds float64) time.Duration {
	longest := max(reflector.DefaultProgressInterval, c.options.StaleAfter-reflector.WatchTimeout)
	d := min(max(time.Duration(seconds*float64(time.Second)), reflector.DefaultProgressInterval), longest)
	return d - rand.N(d/5)
}

// agentCount returns the number of agents, as far as it is known.
func (c *Catalog) agentCount() int {
	if s := c.state.Load(); s != nil && s.whole {
		return s.snapshot.NodeCount()
	}
	return int(c.subscriptions.nodeCount.Load())
}
