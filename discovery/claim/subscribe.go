package claim

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/reflector"
)

// idleAfter is the time without a claim after which a service is no longer subscribed.
const idleAfter = 10 * time.Minute

// usage is the use of a subscribed service.
type usage struct {
	lastClaim time.Time // when a claim was last requested
	release   func()    // ends the retention of the service in the view
}

// Run watches the claims of the services that are claimed from, until ctx ends. It then
// returns nil. It may be called again.
func (c *Claims) Run(ctx context.Context) error {
	select {
	case <-c.started:
	case <-ctx.Done():
		return nil
	}
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return c.reflector.Run(ctx) })
	running.Go(func() error {
		for tick := time.NewTicker(time.Minute); ; {
			select {
			case <-tick.C:
				c.unsubscribeIdle(ctx)
			case <-ctx.Done():
				tick.Stop()
				return nil
			}
		}
	})
	return running.Wait()
}

// unsubscribeIdle ends the watches of the services that are idle.
func (c *Claims) unsubscribeIdle(ctx context.Context) {
	c.subscribing.Lock()
	defer c.subscribing.Unlock()
	for _, service := range c.idleServices(time.Now().Add(-idleAfter)) {
		if c.reflector.Remove(ctx, reflector.Prefix(c.keys.ClaimsOf(service)), func() { c.slots.drop(service) }) != nil {
			return // ctx ended
		}
	}
}

// dropForbidden drops the services whose claims etcd forbids to list, so that the others are
// current without them. The next claim reads them again, and says what etcd answers. It
// implements [reflector.Options.Forbidden].
func (c *Claims) dropForbidden(r reflector.Range, err error) bool {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	for service, use := range c.usages {
		if !r.Covers(reflector.Prefix(c.keys.ClaimsOf(service))) {
			continue
		}
		c.log.Warn("etcd forbids to read the claims of a service; the others go on", "service", service, "error", err)
		use.release()
		delete(c.usages, service)
		c.slots.service(service).forget()
	}
	return true
}

// idleServices removes from c.usages, and returns, the services without grants or waiters
// that were last claimed before t.
func (c *Claims) idleServices(t time.Time) []string {
	granted := c.grantedServices()
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	var services []string
	for service, use := range c.usages {
		if use.lastClaim.Before(t) && !granted[service] && len(c.slots.service(service).waiters) == 0 {
			services = append(services, service)
			use.release()
			delete(c.usages, service)
		}
	}
	return services
}

// grantedServices returns the folded names of the services that this agent has grants of.
func (c *Claims) grantedServices() map[string]bool {
	granted := map[string]bool{}
	for _, name := range c.issuer.Names() {
		granted[discovery.FoldName(name)] = true
	}
	return granted
}

// subscribe makes Run watch the claims of a service, and waits until it has read them.
func (c *Claims) subscribe(ctx context.Context, service string) error {
	c.start()
	if c.touch(service, false) {
		return nil
	}
	c.subscribing.Lock()
	defer c.subscribing.Unlock()
	if c.touch(service, false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	if _, err := c.reflector.Add(ctx, reflector.Prefix(c.keys.ClaimsOf(service)), true); err != nil {
		return fmt.Errorf("claim %s: read its claims: %w", service, err)
	}
	c.touch(service, true)
	return nil
}

// touch records that a service is claimed from, and reports whether it is subscribed. It
// adds the subscription if subscribed is true.
func (c *Claims) touch(service string, subscribed bool) bool {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	name := discovery.FoldName(service)
	use, ok := c.usages[name]
	if !ok && !subscribed {
		return false
	}
	if !ok {
		use = &usage{release: c.view.Retain(discovery.Scope{Service: name})}
		c.usages[name] = use
	}
	use.lastClaim = time.Now()
	return true
}
