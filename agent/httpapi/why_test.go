package httpapi

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"disc/agent/api"
)

// However many ask for explanations, few of them ask etcd at once, and all are answered.
func TestWhyAsksEtcdInBounds(t *testing.T) {
	t.Parallel()
	const all = 3 * whyAsking
	var asking, most, busy, settled atomic.Int64
	told := make(chan struct{}) // closed once each asks or is told that it does not
	settle := func() {
		if settled.Add(1) == all {
			close(told)
		}
	}
	f := withWebs(1)
	f.stored = func(context.Context) (api.WhyEtcd, error) {
		for n := asking.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		defer asking.Add(-1)
		settle()
		<-told // etcd hangs
		return api.WhyEtcd{}, context.DeadlineExceeded
	}
	s := serve(t, f.api(t, Options{}))
	var callers sync.WaitGroup
	for range all {
		callers.Go(func() {
			w, err := s.Why(t.Context(), "web", "web-1")
			if err != nil || w.Instance == nil || w.Etcd.Error == "" {
				t.Errorf("%+v, %v", w, err)
				settle()
			} else if strings.Contains(w.Etcd.Error, "other explanations ask it") {
				busy.Add(1)
				settle()
			}
		})
	}
	callers.Wait()
	if most.Load() > whyAsking || busy.Load() != 2*whyAsking {
		t.Errorf("%d asked at once, and %d were told that others do", most.Load(), busy.Load())
	}
}
