package api

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"disc/discovery"
)

// Defaults and limits of locks.
const (
	DefaultTTL  = 30 * time.Second // of a lock without an open request
	MinTTL      = time.Second      // a shorter one is refused
	MaxTTL      = 24 * time.Hour   // a longer one is refused
	MaxLockWait = 24 * time.Hour   // a longer ?wait= is refused
)

// Lock is a held lock.
type Lock struct {
	ID       string             `json:"id"` // for its holder, to renew and release it
	Name     string             `json:"name"`
	Fence    int64              `json:"fence"`            // fencing token: higher than that of any earlier holder
	Shared   int                `json:"shared,omitempty"` // how many may hold it at once; absent: one
	TTL      discovery.Duration `json:"ttl,omitempty"`    // time within which to renew it; absent: it lasts as long as its request
	ValidFor discovery.Duration `json:"valid_for"`        // nobody else gets it for so long, counted from the request
}

// LockOptions are the options of a lock. The zero value is useful.
type LockOptions struct {
	Wait   time.Duration // for the lock, up to MaxLockWait; 0: do not wait
	TTL    time.Duration // time within which to renew it, MinTTL to MaxTTL; default DefaultTTL
	Shared int           // how many may hold it at once; default one
}

func (o LockOptions) query() url.Values {
	q := url.Values{}
	if o.Wait > 0 {
		q.Set("wait", o.Wait.String())
	}
	if o.TTL > 0 {
		q.Set("ttl", o.TTL.String())
	}
	if o.Shared > 0 {
		q.Set("shared", strconv.Itoa(o.Shared))
	}
	return q
}

func lockPath(name string) string { return "/v1/locks/" + url.PathEscape(name) }

// Lock acquires a lock. Renew it within its TTL with [Client.RenewLock]. ErrConflict: another
// holder has it, or shares it among another number.
func (c *Client) Lock(ctx context.Context, name string, o LockOptions) (Lock, error) {
	var l Lock
	_, err := c.call(ctx, request{method: "POST", path: lockPath(name), query: o.query()}, &l)
	return l, err
}

// HeldLock is a lock that lasts as long as its open request.
type HeldLock struct {
	Lock
	*HeldRequest
}

// HoldLock acquires a lock for as long as the request is open: until Close, or until ctx ends.
// The agent ends the request when the lock is lost. The caller runs [HeldRequest.Wait], asks
// [Client.RenewLock] how long it can rely on the lock, and closes the lock. o.TTL must be
// 0.
func (c *Client) HoldLock(ctx context.Context, name string, o LockOptions) (*HeldLock, error) {
	q := o.query()
	q.Set("hold", "")
	var l Lock
	open, _, err := c.open(ctx, request{method: "POST", path: lockPath(name), query: q}, &l)
	if err != nil {
		return nil, err
	}
	return &HeldLock{l, open}, nil
}

// RenewLock restarts a lock's TTL. The ValidFor that it returns counts from the call. ErrLost:
// the lock is lost; ErrNotFound: the agent has no such lock.
func (c *Client) RenewLock(ctx context.Context, name, id string) (Lock, error) {
	var l Lock
	_, err := c.call(ctx, request{method: "PUT", path: lockPath(name) + "/" + url.PathEscape(id)}, &l)
	return l, err
}

// Unlock releases a lock. It succeeds for an unknown lock, too. ErrLost: the lock had ended
// before, so that another caller may have had it while this one relied on it; the error says why.
func (c *Client) Unlock(ctx context.Context, name, id string) error {
	_, err := c.call(ctx, request{method: "DELETE", path: lockPath(name) + "/" + url.PathEscape(id)}, nil)
	return err
}
