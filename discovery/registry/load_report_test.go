package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// TestLoadRules makes reports at some seconds, and checks what is written at which second:
// the utilization, or - for a removal.
func TestLoadRules(t *testing.T) {
	steady := func(to int, said float64) map[int]float64 {
		reports := map[int]float64{}
		for at := range to {
			reports[at] = said
		}
		return reports
	}
	tests := map[string]struct {
		reports map[int]float64 // by second
		lost    int             // the second at which the session gets another lease
		want    string
	}{
		"one report lasts 30 s":                  {map[int]float64{0: 0.5}, 0, "0:0.5 30:-"},
		"repeated it stays, and is not written":  {steady(60, 0.5), 0, "0:0.5 89:-"},
		"a change of 10 points":                  {map[int]float64{0: 0.5, 7: 0.6, 14: 0.5}, 0, "0:0.5 7:0.6 14:0.5 44:-"},
		"a smaller change":                       {map[int]float64{0: 0.5, 7: 0.59, 14: 0.41}, 0, "0:0.5 44:-"},
		"small changes add up":                   {map[int]float64{0: 0.5, 7: 0.55, 14: 0.6}, 0, "0:0.5 14:0.6 44:-"},
		"at most once in 5 s, and then the last": {map[int]float64{0: 0.1, 1: 0.3, 2: 0.5, 3: 0.7}, 0, "0:0.1 5:0.7 33:-"},
		"there and back within 5 s":              {map[int]float64{0: 0.1, 1: 0.9, 2: 0.1}, 0, "0:0.1 32:-"},
		"again after it was removed":             {map[int]float64{0: 0.5, 31: 0.5}, 0, "0:0.5 30:- 35:0.5 61:-"},
		"under a new lease":                      {steady(20, 0.5), 10, "0:0.5 10:0.5 49:-"},
		"a new lease, and nothing said since":    {map[int]float64{0: 0.5}, 10, "0:0.5 10:0.5 30:-"},
		"a new lease, too late":                  {map[int]float64{0: 0.5}, 29, "0:0.5 29:0.5 34:-"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := play(tt.reports, tt.lost); got != tt.want {
					t.Errorf("written is %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// play simulates 100 s and returns the writes, each as second:utilization.
func play(reports map[int]float64, lost int) string {
	var l loadState
	var story []string
	lease := clientv3.LeaseID(1)
	for second := range 100 {
		if lost > 0 && second == lost {
			lease++
		}
		now := time.Now()
		if said, ok := reports[second]; ok {
			l.utilization, l.reportedAt = said, now
		}
		if due := l.nextWrite(lease, now); !due.IsZero() && !due.After(now) {
			what := "-"
			l.attemptedAt, l.lease = now, 0
			if now.Before(l.reportedAt.Add(discovery.LoadReportTTL)) {
				what = fmt.Sprint(l.utilization)
				l.written, l.lease = l.utilization, lease
			}
			story = append(story, fmt.Sprintf("%d:%s", second, what))
		}
		time.Sleep(time.Second) // of the bubble's clock
	}
	return strings.Join(story, " ")
}

// load returns an instance's load report in etcd under the agent's lease; empty: there is
// none.
func (a *agent) load(id string) string {
	a.t.Helper()
	r, err := a.etcd.Get(bounded(a.t), keys.Load("web", id))
	if err != nil {
		a.t.Fatal(err)
	}
	if len(r.Kvs) == 0 || clientv3.LeaseID(r.Kvs[0].Lease) != a.lease() {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func (a *agent) report(id string, utilization float64) {
	a.t.Helper()
	if err := a.ReportLoad("web", id, utilization); err != nil {
		a.t.Fatal(err)
	}
}

// shift moves the times of a load report into the past.
func (a *agent) shift(id string, heard, tried time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.desired[keys.Instance("web", id)]
	d.load.reportedAt, d.load.attemptedAt = d.load.reportedAt.Add(-heard), d.load.attemptedAt.Add(-tried)
	a.update(d)
	a.wake.Notify()
}

func TestLoadIsWrittenBesideTheRecord(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{resyncInterval: time.Hour})
	if err := a.ReportLoad("web", "a", 0.5); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("report for an instance that is not registered: %v", err)
	}
	a.Put(instance("a"))
	a.report("a", 0.5)
	retrytest.Eventually(t, "the report", func() bool { return a.load("a") == `{"utilization":0.5}` })
	a.report("a", 0.7)
	a.shift("a", 0, time.Hour)
	retrytest.Eventually(t, "the next report", func() bool { return a.load("a") == `{"utilization":0.7}` })
	a.shift("a", time.Hour, time.Hour)
	retrytest.Eventually(t, "an old report to go", func() bool { return a.load("a") == "" })
	a.report("a", 0.3)
	a.shift("a", 0, time.Hour)
	retrytest.Eventually(t, "a report after that", func() bool { return a.load("a") == `{"utilization":0.3}` })

	a.Remove("web", "a")
	a.awaitSettled("a")
	if got := a.load("a"); got != "" {
		t.Errorf("the tombstone has the load %s", got)
	}
	if err := a.ReportLoad("web", "a", 0.5); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("report for an instance that was deregistered: %v", err)
	}
}

func TestLoadComesBack(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{resyncInterval: time.Hour})
	a.Put(instance("a"))
	a.report("a", 0.5)
	retrytest.Eventually(t, "the report", func() bool { return a.load("a") != "" })
	under := a.revokeLease()
	a.shift("a", 0, time.Hour)
	retrytest.Eventually(t, "the report under a new lease", func() bool { return a.lease() != under && a.ownsRecord("a") && a.load("a") != "" })
	if _, err := a.etcd.Delete(t.Context(), keys.Prefix(), clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	a.shift("a", 0, time.Hour)
	retrytest.Eventually(t, "the report after all was deleted", func() bool { return a.ownsRecord("a") && a.load("a") != "" })
}

func TestLoadOfAnothersInstance(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	a.put("a", foreign("a", "other", "r", ""))
	a.Put(instance("a"))
	if s := a.awaitSettled("a"); s.Phase != PhaseConflict {
		t.Fatalf("web/a is %+v", s)
	}
	var conflict *discovery.ConflictError
	if err := a.ReportLoad("web", "a", 0.5); !errors.As(err, &conflict) {
		t.Errorf("report for another's instance: %v", err)
	}
}

// A hundred tombstones that delete load reports need more than one transaction.
func TestManyLoadsAreRemoved(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	const n = 100
	for i := range n {
		a.Put(instance(fmt.Sprint("i", i)))
		a.report(fmt.Sprint("i", i), 0.5)
	}
	left := func() int64 {
		r, err := a.etcd.Get(bounded(t), keys.Service("web")+"load/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return r.Count
	}
	retrytest.Eventually(t, "all reports", func() bool { return left() == n })
	if err := a.DeregisterAll(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != 0 {
		t.Errorf("%d load reports are left", got)
	}
}
