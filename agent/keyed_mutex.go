package agent

import (
	"context"
	"fmt"
	"sync"
)

// keyedMutex let one at a time change an instance. Whoever waits for etcd on behalf of one
// instance holds up nobody who changes another.
type keyedMutex struct {
	mu     sync.Mutex
	locked map[instanceKey]chan struct{} // closed when the turn is over
}

// Lock waits for the turn of an instance and returns what ends it. The error is that
// of ctx.
func (t *keyedMutex) Lock(ctx context.Context, i instanceKey) (end func(), err error) {
	for {
		before, mine := t.tryLock(i)
		if before == nil {
			return func() { t.unlock(i, mine) }, nil
		}
		select {
		case <-before:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another change of %s: %w", i, ctx.Err())
		}
	}
}

// tryLock takes the turn, unless somebody has it: then it returns when theirs is over.
func (t *keyedMutex) tryLock(i instanceKey) (before, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.locked[i]; ok {
		return before, nil
	}
	if t.locked == nil {
		t.locked = map[instanceKey]chan struct{}{}
	}
	mine = make(chan struct{})
	t.locked[i] = mine
	return nil, mine
}

func (t *keyedMutex) unlock(i instanceKey, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.locked, i)
	close(mine)
}
