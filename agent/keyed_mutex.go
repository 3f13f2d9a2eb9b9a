package agent

import (
	"context"
	"fmt"
	"sync"
)

// turns let one at a time change an instance. Whoever waits for etcd on behalf of one
// instance holds up nobody who changes another.
type turns struct {
	mu   sync.Mutex
	busy map[identity]chan struct{} // closed when the turn is over
}

// take waits for the turn of an instance and returns what ends it. The error is that
// of ctx.
func (t *turns) take(ctx context.Context, i identity) (end func(), err error) {
	for {
		before, mine := t.try(i)
		if before == nil {
			return func() { t.end(i, mine) }, nil
		}
		select {
		case <-before:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another change of %s: %w", i, ctx.Err())
		}
	}
}

// try takes the turn, unless somebody has it: then it returns when theirs is over.
func (t *turns) try(i identity) (before, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.busy[i]; ok {
		return before, nil
	}
	if t.busy == nil {
		t.busy = map[identity]chan struct{}{}
	}
	mine = make(chan struct{})
	t.busy[i] = mine
	return nil, mine
}

func (t *turns) end(i identity, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, i)
	close(mine)
}
