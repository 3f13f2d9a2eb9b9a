package agent

import (
	"context"
	"fmt"
	"sync"
)

// keyedMutex is a mutex for each instance: a change of one instance that waits for etcd
// does not hold up changes of others. The zero value is ready.
type keyedMutex struct {
	mu     sync.Mutex
	locked map[instanceKey]chan struct{} // closed by unlock
}

// Lock locks an instance and returns the function that unlocks it. If ctx ends first, it
// returns the error of ctx.
func (m *keyedMutex) Lock(ctx context.Context, key instanceKey) (unlock func(), err error) {
	for {
		held, mine := m.tryLock(key)
		if held == nil {
			return func() { m.unlock(key, mine) }, nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another change of %s: %w", key, ctx.Err())
		}
	}
}

// tryLock locks an instance. If the instance is locked already, it returns the channel
// that is closed when it is unlocked.
func (m *keyedMutex) tryLock(key instanceKey) (held, mine chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held, ok := m.locked[key]; ok {
		return held, nil
	}
	if m.locked == nil {
		m.locked = map[instanceKey]chan struct{}{}
	}
	mine = make(chan struct{})
	m.locked[key] = mine
	return nil, mine
}

func (m *keyedMutex) unlock(key instanceKey, mine chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.locked, key)
	close(mine)
}
