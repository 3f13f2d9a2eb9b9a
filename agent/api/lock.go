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
	DefaultTTL  = 30 * time.Second // of a lock that is not bound to an open request
	MinTTL      = time.Second      // a shorter one is refused
	MaxTTL      = 24 * time.Hour   // a longer one is refused
	MaxLockWait = 24 * time.Hour   // a longer ?wait= is refused
)

// Lock is a lock that is held.
type Lock struct {
	ID       string             `json:"id"` // for its holder: to renew and to release it
	Name     string             `json:"name"`
	Fence    int64              `json:"fence"`            // higher than that of any holder before
	Shared   int                `json:"shared,omitempty"` // how many may hold it at once; absent: one
	TTL      discovery.Duration `json:"ttl,omitempty"`    // within which it is to be renewed; absent: it is bound to an open request
	ValidFor discovery.Duration `json:"valid_for"`        // nobody else has it until then, counted from when this was asked for
}

// LockOptions say how a lock is asked for.
type LockOptions struct {
	Wait   time.Duration // how long to wait for it; 0: it is there or not
	TTL    time.Duration // within which it is to be renewed; default DefaultTTL
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

// Lock waits for a lock, which is then to be renewed within its TTL with
// [Client.RenewLock]. ErrConflict: somebody else has it, or it is shared by another
// number.
func (c *Client) Lock(ctx context.Context, name string, o LockOptions) (Lock, error) {
	var l Lock
	_, err := c.call(ctx, request{method: "POST", path: lockPath(name), query: o.query()}, &l)
	return l, err
}

// HeldLock is a lock that is bound to an open request.
type HeldLock struct {
	Lock
	*OpenRequest
}

// HoldLock waits for a lock that lasts for as long as the request is open: until Close,
// or until ctx ends. The agent ends the request when the lock is lost. The caller runs
// [OpenRequest.Wait], asks [Client.RenewLock] how long the lock can be relied on, and closes
// what it got.
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

// RenewLock begins a lock's TTL anew, and tells how long it can be relied on from when
// this is called. ErrLost: it is lost; ErrNotFound: the agent knows of no such lock.
func (c *Client) RenewLock(ctx context.Context, name, id string) (Lock, error) {
	var l Lock
	_, err := c.call(ctx, request{method: "PUT", path: lockPath(name) + "/" + url.PathEscape(id)}, &l)
	return l, err
}

// Unlock releases a lock, whether it is held, lost or not known any more.
func (c *Client) Unlock(ctx context.Context, name, id string) error {
	_, err := c.call(ctx, request{method: "DELETE", path: lockPath(name) + "/" + url.PathEscape(id)}, nil)
	return err
}
