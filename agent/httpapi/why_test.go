package httpapi

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"disc/agent/api"
)

// However many ask for explanations, few of them ask etcd at once, and all are answered.
func TestWhyAsksEtcdInBounds(t *testing.T) {
	t.Parallel()
	var asking, most, busy atomic.Int64
	told := make(chan struct{}) // closed once all that do not ask are told so
	f := withWebs(1)
	f.stored = func(context.Context) (api.WhyEtcd, error) {
		for n := asking.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		defer asking.Add(-1)
		select { // etcd hangs
		case <-told:
		case <-time.After(20 * time.Second):
		}
		return api.WhyEtcd{}, context.DeadlineExceeded
	}
	s := serve(t, f.api(t, Options{}))
	var callers sync.WaitGroup
	for range 3 * whyAsking {
		callers.Go(func() {
			w, err := s.Why(t.Context(), "web", "web-1")
			if err != nil || w.Instance == nil || w.Etcd.Error == "" {
				t.Errorf("%+v, %v", w, err)
			} else if strings.Contains(w.Etcd.Error, "other explanations ask it") {
				if busy.Add(1) == 2*whyAsking {
					close(told)
				}
			}
		})
	}
	callers.Wait()
	if most.Load() > whyAsking || busy.Load() != 2*whyAsking {
		t.Errorf("%d asked at once, and %d were told that others do", most.Load(), busy.Load())
	}
}
