// Package answercache caches the answers about a service in several random orders,
// for each revision of the service.
//
// A lookup answers with its instances in a random order. Shuffling and encoding them for
// each request costs far more than sending them. A protocol therefore encodes an answer a
// few times, in [Orders], and picks one of these at random for each request. A
// [ServiceCache] holds such answers by question, for a protocol that has many questions
// about one service. Both lie in the memo of the service (see [view.Service.Memo]) and go
// with its revision.
//
//	cache := &answercache.Cache[packet]{}
//	answers := cache.Of(service).GetOrAdd(question, answercache.Count(records, size, maxBytes))
//	if p := answers.Load(rand.Uint32()); p != nil {
//		return p
//	}
package answercache

import "sync/atomic"

// MaxOrders is the number of orders in which an answer is cached at most.
const MaxOrders = 16

// Count returns in how many orders an answer is worth caching: in one where it has
// fewer than two records, otherwise in MaxOrders or, so that they take no more than
// maxBytes, in fewer, but at least in two. size is the answer's, in bytes.
func Count(records, size, maxBytes int) int {
	if records < 2 {
		return 1
	}
	return min(MaxOrders, max(2, maxBytes/max(size, 1)))
}

// Orders is one answer in several orders, each made when it is first wanted. It is
// safe for use by many goroutines.
type Orders[T any] struct{ slots []atomic.Pointer[T] }

// New returns room for count orders, which is at least 1; see [Count].
func New[T any](count int) *Orders[T] { return &Orders[T]{make([]atomic.Pointer[T], count)} }

// Len returns how many orders there are, made or not.
func (o *Orders[T]) Len() int { return len(o.slots) }

// Load returns order n modulo Len; nil: it is not made yet.
func (o *Orders[T]) Load(n uint32) *T { return o.slot(n).Load() }

// Store sets order n modulo Len, in place of an earlier one. The answer must not
// change afterwards.
func (o *Orders[T]) Store(n uint32, answer *T) { o.slot(n).Store(answer) }

func (o *Orders[T]) slot(n uint32) *atomic.Pointer[T] { return &o.slots[n%uint32(len(o.slots))] }
