package claim

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/reflector"
)

// idleAfter is after how long without a claim the slots of a service are not watched any
// more.
const idleAfter = 10 * time.Minute

// usage is the use of a service.
type usage struct {
	lastClaim time.Time // when it was claimed from
	release   func()    // lets the view go of it
}

// Run follows the slots of the services that are claimed from, until ctx ends. It returns
// nil then.
func (c *Claims) Run(ctx context.Context) error {
	select {
	case <-c.started:
	case <-ctx.Done():
		return nil
	}
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return c.reflector.Run(ctx) })
	running.Go(func() error {
		for look := time.NewTicker(time.Minute); ; {
			select {
			case <-look.C:
				c.unsubscribeIdle(ctx)
			case <-ctx.Done():
				look.Stop()
				return nil
			}
		}
	})
	return running.Wait()
}

// unsubscribeIdle ends the following of services that nobody has claimed from for a while.
func (c *Claims) unsubscribeIdle(ctx context.Context) {
	c.subscribing.Lock()
	defer c.subscribing.Unlock()
	for _, service := range c.idleServices(time.Now().Add(-idleAfter)) {
		err := c.reflector.Remove(ctx, reflector.Prefix(c.keys.ClaimsOf(service)), func() { c.slots.drop(service) })
		if err != nil && ctx.Err() == nil {
			c.log.Warn("cannot end the watch of a service's claims; trying again", "service", service, "error", err)
		}
	}
}

// idleServices returns the services that were last claimed from before a time, of which nothing
// is held and that nobody waits for, and takes them off the list.
func (c *Claims) idleServices(before time.Time) []string {
	held := c.grantedServices()
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	var services []string
	for service, use := range c.usages {
		if use.lastClaim.Before(before) && !held[service] && len(c.slots.service(service).waiters) == 0 {
			services = append(services, service)
			use.release()
			delete(c.usages, service)
		}
	}
	return services
}

// grantedServices are those of which this agent holds claims, by folded name.
func (c *Claims) grantedServices() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := map[string]bool{}
	for _, g := range c.grants {
		if g.kind == KindClaim {
			held[discovery.FoldName(g.name)] = true
		}
	}
	return held
}

// subscribe has the slots of a service followed.
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

// touch notes that a service is claimed from, and reports whether its slots are followed.
func (c *Claims) touch(service string, followed bool) bool {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	name := discovery.FoldName(service)
	use, ok := c.usages[name]
	if !ok && !followed {
		return false
	}
	if !ok {
		use = &usage{release: c.view.Retain(discovery.Scope{Service: name})}
		c.usages[name] = use
	}
	use.lastClaim = time.Now()
	return true
}
