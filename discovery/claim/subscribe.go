package claim

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/reflector"
)

// unused is after how long without a claim the slots of a service are not watched any
// more.
const unused = 10 * time.Minute

// used is the use of a service.
type used struct {
	last    time.Time // when it was claimed from
	release func()    // lets the view go of it
}

// Run follows the slots of the services that are claimed from, until ctx ends. It returns
// nil then.
func (c *Claims) Run(ctx context.Context) error {
	select {
	case <-c.begun:
	case <-ctx.Done():
		return nil
	}
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return c.follower.Run(ctx) })
	running.Go(func() error {
		for look := time.NewTicker(time.Minute); ; {
			select {
			case <-look.C:
				c.leave(ctx)
			case <-ctx.Done():
				look.Stop()
				return nil
			}
		}
	})
	return running.Wait()
}

// leave ends the following of services that nobody has claimed from for a while.
func (c *Claims) leave(ctx context.Context) {
	c.enlisting.Lock()
	defer c.enlisting.Unlock()
	for _, service := range c.disused(time.Now().Add(-unused)) {
		err := c.follower.Remove(ctx, reflector.Prefix(c.keys.ClaimsOf(service)), func() { c.slots.forget(service) })
		if err != nil && ctx.Err() == nil {
			c.log.Warn("cannot end the watch of a service's claims; trying again", "service", service, "error", err)
		}
	}
}

// disused returns the services that were last claimed from before a time, of which nothing
// is held and that nobody waits for, and takes them off the list.
func (c *Claims) disused(before time.Time) []string {
	held := c.heldServices()
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	var services []string
	for service, use := range c.used {
		if use.last.Before(before) && !held[service] && len(c.slots.of(service).queue) == 0 {
			services = append(services, service)
			use.release()
			delete(c.used, service)
		}
	}
	return services
}

// heldServices are those of which this agent holds claims, by folded name.
func (c *Claims) heldServices() map[string]bool {
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

// enlist has the slots of a service followed.
func (c *Claims) enlist(ctx context.Context, service string) error {
	c.begin()
	if c.use(service, false) {
		return nil
	}
	c.enlisting.Lock()
	defer c.enlisting.Unlock()
	if c.use(service, false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	if _, err := c.follower.Add(ctx, reflector.Prefix(c.keys.ClaimsOf(service)), true); err != nil {
		return fmt.Errorf("claim %s: read its claims: %w", service, err)
	}
	c.use(service, true)
	return nil
}

// use notes that a service is claimed from, and reports whether its slots are followed.
func (c *Claims) use(service string, followed bool) bool {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	name := discovery.FoldName(service)
	use, ok := c.used[name]
	if !ok && !followed {
		return false
	}
	if !ok {
		use = &used{release: c.view.Retain(discovery.Scope{Service: name})}
		c.used[name] = use
	}
	use.last = time.Now()
	return true
}
