package claim

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// A slot that this agent has released is free before the watch shows it, however far the
// watch lags behind, and claims made after that count.
func TestReleasedSlotIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	key := keys.Claim("gpu", "gpu-1", 0)
	put := func(revision int64) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.PUT, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
	}
	deletion := func(revision int64) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
	}
	for name, seen := range map[string]struct{ before, after []*clientv3.Event }{
		"watch has seen the claim":            {[]*clientv3.Event{put(7)}, []*clientv3.Event{deletion(8)}},
		"watch has not seen the claim":        {nil, []*clientv3.Event{put(7), deletion(8)}},
		"watch is at an earlier claim":        {[]*clientv3.Event{put(3)}, []*clientv3.Event{deletion(4), put(7), deletion(8)}},
		"watch has not seen an earlier claim": {nil, []*clientv3.Event{put(3), deletion(4), put(7), deletion(8)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlotStore(keys)
			gpu, woken := s.service("gpu"), retry.NewSignal()
			gpu.waiters = append(gpu.waiters, woken)
			free := func(when string, want bool) {
				t.Helper()
				if got := len(gpu.keys) == 0 && gpu.count["gpu-1"] == 0 && len(gpu.reserved) == 0; got != want {
					t.Errorf("%s: free is %v: %+v", when, got, gpu)
				}
			}
			s.Apply(reflector.Update{Events: seen.before, Revision: 6})
			s.confirmReservation("gpu", key, 7)
			free("claimed", false)
			s.release(key, 7, 8)
			free("released", true)
			if len(woken) != 1 {
				t.Error("nobody is woken")
			}
			<-woken
			for _, e := range seen.after {
				s.Apply(reflector.Update{Events: []*clientv3.Event{e}, Revision: e.Kv.ModRevision})
				free("while the watch lags", true)
			}
			if len(woken) != 0 {
				t.Error("somebody is woken again")
			}
			s.release(key, 7, 8) // after the watch has shown it
			s.Apply(reflector.Update{Events: []*clientv3.Event{put(9)}, Revision: 9})
			free("claimed again", false)
			s.Apply(reflector.Update{Events: []*clientv3.Event{deletion(10)}, Revision: 10})
			free("deleted", true)
			if len(woken) != 1 {
				t.Errorf("%d are woken by the deletion", len(woken))
			}
		})
	}
}
