package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"disc/agent/api"
)

// The bytes of bodies that are in memory at once.
const (
	maxOpenBodies    = 8 << 20  // of requests that need no token
	maxWriteBodies   = 32 << 20 // of requests that need the token, where one is set
	maxAnswers       = 64 << 20 // of answers that are being written, without the small ones
	smallBody        = 16 << 10 // what is larger does not use the part for small bodies
	bodyOverhead     = 1 << 10  // counted for each body besides its bytes
	smallBodiesShare = 4        // one part in so many is for small bodies
)

// budget bounds the bytes that are in use at once. One request that is larger than the whole
// budget passes while nothing is in use.
type budget struct {
	size  int64
	used  atomic.Int64
	freed chan struct{} // has an element when bytes were released; nil: nobody waits for that
}

// acquire takes n bytes and reports whether there is room for them. The caller releases them.
func (b *budget) acquire(n int64) bool {
	for {
		used := b.used.Load()
		if used > 0 && used+n > b.size {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// await is acquire that waits until there is room, or ctx ends.
func (b *budget) await(ctx context.Context, n int64) error {
	for !b.acquire(n) {
		select {
		case <-b.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.wake() // there may be room for another one
	return nil
}

// release gives back what acquire took.
func (b *budget) release(n int64) {
	b.used.Add(-n)
	b.wake()
}

func (b *budget) wake() {
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// bodyBudget bounds the bytes of the bodies of requests. Small ones have a part of their own, so
// that large ones do not keep them out.
type bodyBudget struct{ small, large budget }

func newBodyBudget(size int64) *bodyBudget {
	return &bodyBudget{small: budget{size: size / smallBodiesShare}, large: budget{size: size - size/smallBodiesShare}}
}

// of returns the part for a body of n bytes.
func (b *bodyBudget) of(n int64) *budget {
	if n <= smallBody {
		return &b.small
	}
	return &b.large
}

// reserveAnswer reserves room for an answer of n bytes, until release is called when it is
// written. Small answers need none: there are no more of them than connections.
func (a *API) reserveAnswer(n int) (release func(), err error) {
	if n <= smallBody {
		return func() {}, nil
	}
	size := int64(n)
	if !a.answers.acquire(size) {
		return nil, overload("the answer has %d bytes, and the answers that callers have not read yet have %d of at most %d", n, a.answers.used.Load(), a.answers.size)
	}
	return func() { a.answers.release(size) }, nil
}

// sharedRoom is the room of a body that many callers read at once.
type sharedRoom struct {
	mu      sync.Mutex
	readers int
}

// reserveShared is reserveAnswer for a body of n bytes that others may read as well. It is
// counted once, until the last of them releases it.
func (a *API) reserveShared(room *sharedRoom, n int) (release func(), err error) {
	if room == nil || n <= smallBody {
		return a.reserveAnswer(n)
	}
	room.mu.Lock()
	defer room.mu.Unlock()
	if room.readers == 0 {
		if _, err := a.reserveAnswer(n); err != nil {
			return nil, err
		}
	}
	room.readers++
	return func() {
		room.mu.Lock()
		defer room.mu.Unlock()
		if room.readers--; room.readers == 0 {
			a.answers.release(int64(n))
		}
	}, nil
}

// writeEvent writes an event of a stream that encode makes. Where there is no room for it, a
// stream that has not begun is refused, and one that has waits. It keeps nothing meanwhile, so
// that encode is called again.
func (a *API) writeEvent(w http.ResponseWriter, r request, encode func() ([]byte, error)) error {
	if err := a.startWork(r); err != nil {
		return err
	}
	event, err := encode()
	if err != nil {
		return err
	}
	release, err := a.reserveAnswer(len(event))
	if err != nil {
		if !r.answer.started {
			return err
		}
		size := int64(len(event))
		event = nil
		r.answer.endWork()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // over HTTP/2 it would end the wait
		if err := a.answers.await(r.Context(), size); err != nil {
			return err
		}
		release = func() { a.answers.release(size) }
	}
	defer release()
	if event == nil {
		if err := a.startWork(r); err != nil {
			return err
		}
		if event, err = encode(); err != nil {
			return err
		}
	}
	a.extend(w)
	_, err = w.Write(event)
	return err
}

// overload returns the answer to a request that there is no room for now. It says which bound
// is reached.
func overload(format string, args ...any) error {
	return api.NewProblem(http.StatusServiceUnavailable, fmt.Sprintf(format+"; try again later", args...))
}
