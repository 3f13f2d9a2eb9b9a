package answercache

import (
	"encoding/binary"
	"sync"
	"testing"

	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// services returns two services of one snapshot.
func services(t *testing.T) (web, db *view.Service) {
	t.Helper()
	s, _, broken := view.EmptySnapshot().Apply(1, []view.Change{viewtest.Put(1, "web/static/w", ""), viewtest.Put(1, "db/static/d", "")})
	if len(broken) > 0 {
		t.Fatal(broken)
	}
	web, _ = s.Service("web")
	db, _ = s.Service("db")
	return web, db
}

func TestCount(t *testing.T) {
	const maxBytes = 1000
	for name, tt := range map[string]struct{ records, size, want int }{
		"nothing":        {0, 0, 1},
		"one record":     {1, 10, 1},
		"two records":    {2, 10, MaxOrders},
		"no size":        {2, 0, MaxOrders},
		"large":          {50, 250, 4},
		"over the limit": {500, 5000, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Count(tt.records, tt.size, maxBytes); got != tt.want {
				t.Errorf("%d orders, want %d", got, tt.want)
			}
		})
	}
}

func TestOrdersWrapAround(t *testing.T) {
	o := New[int](3)
	answer := 7
	o.Store(4, &answer)
	if o.Load(1) != &answer || o.Load(7) != &answer || o.Load(0) != nil || o.Load(2) != nil {
		t.Error("order 4 of 3 is not order 1 alone")
	}
}

func TestCacheIsOfOneProtocolAndService(t *testing.T) {
	web, db := services(t)
	var http, dns Cache[int]
	first := http.Of(web)
	if http.Of(web) != first {
		t.Error("a service has two parts of one cache")
	}
	if http.Of(web) == dns.Of(web) || http.Of(web) == http.Of(db) {
		t.Error("two protocols or services share a part")
	}
}

func TestServiceCacheIsBounded(t *testing.T) {
	c := newServiceCache[int]()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for n := range 2 * MaxQuestions {
				question := binary.BigEndian.AppendUint16(nil, uint16(n))
				if o := c.GetOrAdd(question, 1); o != nil && c.Get(question) != o {
					t.Errorf("question %d has two answers", n)
				}
			}
		})
	}
	group.Wait()
	if c.Len() != MaxQuestions {
		t.Errorf("%d questions have an answer, want %d", c.Len(), MaxQuestions)
	}
	if c.GetOrAdd([]byte("one more"), 1) != nil {
		t.Error("a full cache takes one more question")
	}
}

func TestReadsAllocateNothing(t *testing.T) {
	web, _ := services(t)
	var cache Cache[int]
	question, answer := []byte("web A"), 7
	cache.Of(web).GetOrAdd(question, 2).Store(0, &answer)
	if n := retrytest.Allocations(100, func() {
		if *cache.Of(web).Get(question).Load(2) != answer {
			t.Fatal("another answer")
		}
	}); n > 0 {
		t.Errorf("%v allocations a read", n)
	}
}
