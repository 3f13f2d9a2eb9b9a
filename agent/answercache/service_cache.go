package answercache

import (
	"maps"
	"sync/atomic"

	"disc/discovery/view"
)

// MaxQuestions is the number of questions about one revision of a service whose
// answers are cached at most: no caller can make the cache grow without end.
const MaxQuestions = 256

// Cache is the cache of one protocol. Its address is the key of the ServiceCaches in the
// memos of the services. The zero value is ready for use. It must not be copied.
type Cache[T any] struct {
	_ byte // a type without size would have one address for all of its values
}

// Of returns the cache of one revision of a service.
func (c *Cache[T]) Of(s *view.Service) *ServiceCache[T] {
	return s.Memo(c, func() any { return newServiceCache[T]() }).(*ServiceCache[T])
}

// ServiceCache holds the answers about one revision of a service, by question. It is
// safe for use by many goroutines. A read takes no lock and allocates nothing.
type ServiceCache[T any] struct {
	answers atomic.Pointer[map[string]*Orders[T]] // by question; copied on write
}

func newServiceCache[T any]() *ServiceCache[T] {
	c := &ServiceCache[T]{}
	c.answers.Store(&map[string]*Orders[T]{})
	return c
}

// Len returns how many questions have an answer in the cache.
func (c *ServiceCache[T]) Len() int { return len(*c.answers.Load()) }

// Get returns the answer to a question; nil: there is none.
func (c *ServiceCache[T]) Get(question []byte) *Orders[T] {
	return (*c.answers.Load())[string(question)]
}

// GetOrAdd returns the answer to a question, and adds one with count orders where
// there is none; nil: MaxQuestions have one already.
func (c *ServiceCache[T]) GetOrAdd(question []byte, count int) *Orders[T] {
	for {
		old := c.answers.Load()
		if o, ok := (*old)[string(question)]; ok {
			return o
		}
		if len(*old) >= MaxQuestions {
			return nil
		}
		o := New[T](count)
		next := maps.Clone(*old)
		next[string(question)] = o
		if c.answers.CompareAndSwap(old, &next) {
			return o
		}
	}
}
