package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// TestFaultFlappingCheck changes the result of a check every second. The agent writes the record
// at the registration, for two changes, and then once in 10 s.
func TestFaultFlappingCheck(t *testing.T) {
	t.Parallel()
	const watched, period = 22 * time.Second, 10 * time.Second
	var asked atomic.Int64
	flapping := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(flapping.Close)
	etcd := startMember(t)
	one := startSidecar(t, "one", etcd.endpoint)
	client := etcdtest.Client(t, etcd.endpoint)
	began := time.Now()
	register(t, one, "web-1", discovery.CheckSpec{Type: discovery.CheckHTTP, URL: flapping.URL, Interval: discovery.Duration(time.Second), FailureThreshold: 1})
	pause(watched)
	got, err := client.Get(t.Context(), fleetKeys.Instance("web", "web-1"))
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(got, err)
	}
	writes, most := got.Kvs[0].Version, 3+int64(time.Since(began)/period)
	t.Logf("the check ran %d times, and the record was written %d times in %v; bound %d", asked.Load(), writes, time.Since(began).Round(time.Second), most)
	if writes > most {
		t.Errorf("%d writes, want at most %d", writes, most)
	}
	if writes < 2 {
		t.Error("no change was written")
	}
}

// register registers an instance with one check.
func register(t *testing.T, s *sidecar, id string, check discovery.CheckSpec) {
	t.Helper()
	_, err := s.Register(t.Context(), discovery.Registration{Service: "web", ID: id, Address: "127.0.0.1", Port: 1, Checks: []discovery.CheckSpec{check}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFaultHangingCheck runs a check that is never answered. Its timeout ends each run, one run
// is active at a time, and other checks run as before.
func TestFaultHangingCheck(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	var now, most, asked, longest atomic.Int64
	over := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		asked.Add(1)
		began := time.Now()
		select {
		case <-r.Context().Done():
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		case <-over:
		}
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(over) })
	etcd := startMember(t)
	one := startSidecar(t, "one", etcd.endpoint)
	client := etcdtest.Client(t, etcd.endpoint)
	interval := discovery.Duration(timeout)
	register(t, one, "hangs", discovery.CheckSpec{Type: discovery.CheckHTTP, URL: hanging.URL, Interval: interval, Timeout: interval, FailureThreshold: 1})
	register(t, one, "well", discovery.CheckSpec{Type: discovery.CheckTCP, Address: strings.TrimPrefix(hanging.URL, "http://"), Interval: interval, Timeout: interval})
	one.find(t, "web", "well")
	within(t, time.Now(), 10*time.Second, "the check has run four times", func() error {
		if n := asked.Load(); n < 4 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	took := time.Duration(longest.Load())
	if check := checkOf(t, one, "hangs"); check.Status != discovery.Critical || took > timeout+slack {
		t.Errorf("the check is %s, and a run took %v", check.Status, took)
	}
	t.Logf("a run took at most %v; bound %v", took.Round(time.Millisecond), timeout)
	if n := most.Load(); n > 2 { // the server may see the end of a run after the start of the next
		t.Errorf("%d runs at once", n)
	}
	if status := recordStatus(t, client, fleetKeys.Instance("web", "hangs")); status != discovery.Critical {
		t.Errorf("the record's status is %s", status)
	}
}

// checkOf returns an instance's only check in the agent's status.
func checkOf(t *testing.T, s *sidecar, id string) api.Check {
	t.Helper()
	status, err := s.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range status.Registrations {
		if r.ID == id && len(r.Checks) == 1 {
			return r.Checks[0]
		}
	}
	t.Fatalf("%s has no check: %+v", id, status.Registrations)
	return api.Check{}
}

// recordStatus returns the status in an instance's record.
func recordStatus(t *testing.T, client *clientv3.Client, key string) discovery.Status {
	t.Helper()
	i, err := discovery.DecodeInstance([]byte(get(t, client, key)))
	if err != nil {
		t.Fatal(err)
	}
	return i.Status
}

// TestFaultForkingCheck runs a check whose children outlast it. The agent kills the process group
// of each run, and that of the last run when it ends itself.
func TestFaultForkingCheck(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	fork, pids := filepath.Join(t.TempDir(), "fork"), filepath.Join(t.TempDir(), "pids")
	script := "#!/bin/sh\ntrap '' TERM\nsleep 1000 & echo $! >>" + pids + "\n(sleep 1000 & echo $! >>" + pids + ")\nsleep 1000\n"
	if err := os.WriteFile(fork, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	one := startSidecar(t, "one", etcd.endpoint,
		"services: [{service: web, id: web-1, port: 1, address: 127.0.0.1, checks: [{type: exec, interval: 1s, timeout: 1s, command: ["+fork+"]}]}]")
	within(t, time.Now(), 10*time.Second, "three runs have started their children", func() error {
		if n := len(childPIDs(pids)); n < 6 {
			return fmt.Errorf("%d children", n)
		}
		return nil
	})
	within(t, time.Now(), 2*time.Second, "the children of the first two are dead", func() error {
		return checkAllDead(childPIDs(pids)[:4])
	})
	if check := checkOf(t, one, "web-1"); check.Status != discovery.Critical {
		t.Errorf("the check is %+v", check)
	}
	one.signal(syscall.SIGTERM)
	within(t, time.Now(), waitTimeout, "the agent and all children are dead", func() error {
		if err := one.exited(); err != nil {
			return err
		}
		return checkAllDead(childPIDs(pids))
	})
}

// childPIDs returns the process ids that the script has written to a file.
func childPIDs(file string) []string {
	b, _ := os.ReadFile(file) // no file: no children yet
	return strings.Fields(string(b))
}

func checkAllDead(pids []string) error {
	for _, pid := range pids {
		if err := checkDead(pid); err != nil {
			return err
		}
	}
	return nil
}

// checkDead returns an error while a process is alive. A zombie is dead.
func checkDead(pid string) error {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, state, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(state, "Z") {
		return nil
	}
	return fmt.Errorf("process %s is alive: %s%w", pid, b, err)
}
