package envoy

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// The bounds of what all clients together have open and in memory.
const (
	MaxAllStreams = 512      // open at once on all connections
	MaxCalls      = 512      // of the rate limit service at once on all connections
	MaxNameBytes  = 16 << 20 // of the cluster names of all streams, each counted with nameOverhead
	MaxUnread     = 64 << 20 // bytes of responses that clients have not read yet

	nameOverhead = 128 // bytes of memory for a name besides its own
	maxBuilding  = 4   // responses that are made at once
)

// bounds are the bounds of a server.
type bounds struct {
	streams, calls int64
	names          int64         // bytes
	unread         int64         // bytes
	readTime       time.Duration // for a client to read a response, if others wait for the room
}

var defaultBounds = bounds{streams: MaxAllStreams, calls: MaxCalls, names: MaxNameBytes, unread: MaxUnread, readTime: 30 * time.Second}

// tally bounds a number of things in all.
type tally struct {
	most int64
	used atomic.Int64
}

// add adds n, which may be negative, unless that leads above the bound. It reports whether it
// has added.
func (t *tally) add(n int64) bool {
	if t.used.Add(n) > t.most && n > 0 {
		t.used.Add(-n)
		return false
	}
	return true
}

// admit counts a new stream or call, before anything of its request is read, until it ends.
func (v *serving) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	open, what := &v.streams, "streams"
	if strings.HasPrefix(info.FullMethodName, "/"+rateLimitName+"/") {
		open, what = &v.calls, "calls of the rate limit service"
	}
	if !open.add(1) {
		return ctx, status.Errorf(codes.ResourceExhausted, "the agent has %d %s open, the most that it allows; close some, or use one aggregated stream (ADS)", open.most, what)
	}
	context.AfterFunc(ctx, func() { open.add(-1) })
	return ctx, nil
}

// nameRoom is the room that the cluster names of a stream take.
type nameRoom struct {
	in    *tally
	bytes int64
}

// set takes room for names in place of what was taken.
func (r *nameRoom) set(names int, bytes int64) error {
	size := bytes + int64(names)*nameOverhead
	if !r.in.add(size - r.bytes) {
		return status.Errorf(codes.ResourceExhausted, "the names of %d clusters are too many beside those of all other streams: they may take %d bytes in all, with %d more for each", names, r.in.most, nameOverhead)
	}
	r.bytes = size
	return nil
}

// release gives the room back.
func (r *nameRoom) release() { r.in.add(-r.bytes) }
