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

// LockQueue is who holds a lock and who waits for it, in the order of their requests.
type LockQueue struct {
	Name      string       `json:"name"`
	Shared    int          `json:"shared"` // how many may hold it at once
	Holders   []LockCaller `json:"holders"`
	Waiters   []LockCaller `json:"waiters"`
	Truncated bool         `json:"truncated,omitempty"` // there are more waiters
}

// LockCaller is somebody who holds a lock or waits for it.
type LockCaller struct {
	Holder string      `json:"holder"`           // the short form of the id: the session, and some of the rest
	Node   string      `json:"node,omitempty"`   // of its agent
	Asked  time.Time   `json:"asked,omitzero"`   // when it asked for the lock
	Fence  int64       `json:"fence"`            // that it has, or will have
	Broken *LockBroken `json:"broken,omitempty"` // absent: its lock is not broken
}

// LockBroken says who broke a lock, and when.
type LockBroken struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// LockList is the locks that somebody holds or waits for, sorted by name.
type LockList struct {
	Locks     []LockQueue `json:"locks"`
	Truncated bool        `json:"truncated,omitempty"` // there are too many; some are missing
}

// Locks lists the locks that somebody holds or waits for, as etcd has them.
func (c *Client) Locks(ctx context.Context) (LockList, error) {
	var list LockList
	_, err := c.call(ctx, request{method: "GET", path: "/v1/locks"}, &list)
	return list, err
}

// LockQueue returns who holds a lock and who waits for it, as etcd has it. ErrNotFound: nobody
// holds it.
func (c *Client) LockQueue(ctx context.Context, name string) (LockQueue, error) {
	var q LockQueue
	_, err := c.call(ctx, request{method: "GET", path: lockPath(name)}, &q)
	return q, err
}

// BreakOptions are the options of a break. The zero value is useful.
type BreakOptions struct {
	Holder string // the id of the holder of a shared lock, or its beginning
	Now    bool   // give the lock to the next at once, although its holder may still rely on it
}

// BrokenLock is a lock that was taken away from its holder.
type BrokenLock struct {
	Name   string             `json:"name"`
	Holder LockCaller         `json:"holder"`
	Within discovery.Duration `json:"within,omitempty"` // the next gets the lock within this time; absent: it is free
}

// BreakLock takes a lock away from its holder, who is told that it is lost. The next gets it when
// the holder cannot rely on it any more. ErrNotFound: nobody holds the lock, or not that holder;
// ErrInvalid: it has several holders; ErrForbidden: it is another agent's, and this one has no
// token.
func (c *Client) BreakLock(ctx context.Context, name string, o BreakOptions) (BrokenLock, error) {
	q := url.Values{"force": {""}}
	if o.Holder != "" {
		q.Set("holder", o.Holder)
	}
	if o.Now {
		q.Set("now", "")
	}
	var b BrokenLock
	_, err := c.call(ctx, request{method: "DELETE", path: lockPath(name), query: q}, &b)
	return b, err
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
