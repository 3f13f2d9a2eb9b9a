package reflector

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/retry/retrytest"
)

func TestOrdersProgress(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"3.4.24": false, "3.4.25": true, "3.5.0": false, "3.5.7": false, "3.5.8": true, "3.5.33": true, "3.6.0": true, "3.7.3": true, "3.7.0-rc.1": true, "4.0.0": true, "": false, "x": false,
	} {
		if got := ordersProgress(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// An answer to a progress request counts for a watch only if etcd had the watch when it answered.
func TestProgressOfAWatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		asked   int   // requests without an answer when the watch was started
		created int64 // revision of the watch's first response; 0: it comes last
		answers []int64
		want    int64
	}{
		"before it is known to exist":  {0, 0, []int64{12}, 0},
		"at a higher revision":         {2, 10, []int64{12}, 12},
		"the only request is newer":    {0, 10, []int64{10}, 10},
		"it may answer an older one":   {1, 10, []int64{10}, 0},
		"the older one was answered":   {1, 10, []int64{10, 10}, 10},
		"several older ones":           {2, 10, []int64{10, 10}, 0},
		"a later answer counts for it": {2, 10, []int64{10, 10, 10}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watchedRange{Range: Prefix("/a/"), revision: 5}
			r := New(nil, newRecordingStore(), Options{})
			r.identity = life.Identity{Header: life.Header{Cluster: 1, Revision: 5}}
			r.ranges, r.watches = []*watchedRange{w}, map[int64]*watchedRange{2: w}
			w.olderAnswers = test.asked
			r.progress.order = ordered
			if test.created > 0 {
				if err := r.handle([]*pb.WatchResponse{{WatchId: 2, Created: true, Header: &pb.ResponseHeader{ClusterId: 1, Revision: test.created}}}); err != nil {
					t.Fatal(err)
				}
			}
			for _, revision := range test.answers {
				if err := r.handle(progress(1, revision)); err != nil {
					t.Fatal(err)
				}
			}
			if w.progress != test.want {
				t.Errorf("progress %d, want %d", w.progress, test.want)
			}
			last := test.answers[len(test.answers)-1]
			if behind := r.behind(last); (len(behind) == 0) != (test.want == last) {
				t.Errorf("behind %d: %v", last, behind)
			}
		})
	}
}

// On demand, the store learns that nothing is missing although nothing has changed.
func TestRequestProgress(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, "/a/1", "")
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{Prefix("/a/")}, ProgressInterval: func() time.Duration { return time.Hour }})
	retrytest.Eventually(t, "the first list", func() bool { return r.Health().Synced })
	for n := range 3 {
		last := put(t, client, "/b/1", fmt.Sprint(n))
		retrytest.Eventually(t, "progress", func() bool {
			r.RequestProgress()
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.reached >= last
		})
	}
}
