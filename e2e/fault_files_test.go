package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/discovery"
)

// TestFaultOpenFiles floods an agent that has a low limit of open files with connections to all of
// its listeners. The agent keeps its session, even when it must reconnect to etcd, and serves
// again after the flood.
func TestFaultOpenFiles(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one := startSidecarThrough(t, []string{"prlimit", "--nofile=96:96", "--"}, "one", etcd.endpoint)
	w := startUndisturbed(t, one, startSidecar(t, "peer", etcd.endpoint))
	at := listening.FindStringSubmatch(one.output.String())
	if at == nil {
		t.Fatal("the agent does not log its addresses")
	}
	over := flood(t, 200, at[1], at[2])
	began := time.Now()
	etcd.signal(syscall.SIGKILL)
	<-etcd.ended
	etcd.start(t)
	within(t, began, ttl, "the lease is kept alive over another connection", func() error {
		status, err := one.Agent(t.Context())
		if ago := time.Duration(status.Session.LastKeepalive); err == nil && ago > time.Since(began) {
			err = fmt.Errorf("the last keepalive was %v ago", ago)
		}
		return err
	})
	one.register(t, "db", "db-1")
	w.peer.find(t, "db", "db-1")
	w.check(t)
	over()
	within(t, time.Now(), time.Second, "it serves after the flood", func() error {
		resp, err := (&http.Client{Timeout: time.Second}).Get("http://" + at[1] + "/v1/lookup/web")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("lookup: %s", resp.Status)
		}
		conn, err := net.DialTimeout("tcp", at[2], time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// flood opens n idle connections to each address. over closes them.
func flood(t *testing.T, n int, addresses ...string) (over func()) {
	t.Helper()
	var all []net.Conn
	over = func() {
		for _, conn := range all {
			conn.Close()
		}
	}
	t.Cleanup(over)
	for range n {
		for _, address := range addresses {
			conn, err := net.DialTimeout("tcp", address, waitTimeout)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, conn)
		}
	}
	return over
}

// TestFaultDataDirectory fills the disk, makes it read-only, and damages the last good view on it.
// A full disk leaves the old view unchanged, the agent rejects a damaged one, and it runs in every
// case.
func TestFaultDataDirectory(t *testing.T) {
	t.Parallel()
	host, etcd := newNamespace(t), startMember(t)
	one := newSidecar(t, []string{"nsenter", "--target", host.pid, "--mount", "--"}, "one", etcd.endpoint, "on_stop: keep")
	host.run(t, "mkdir %s/data && mount -t tmpfs -o size=64k,mode=700 tmpfs %s/data", one.dir, one.dir)
	lastGood := "/proc/" + host.pid + "/root" + one.dir + "/data/last-good"
	one.start(t)
	before := one.register(t, "web", "web-1")
	one.signal(syscall.SIGTERM) // the agent saves the view when it ends
	<-one.ended

	// full: the disk keeps the old view, and lacks what is new in etcd
	host.run(t, "head -c 1M /dev/zero >%s/data/filler || true", one.dir)
	one.start(t)
	one.register(t, "web", "web-2")
	one.awaitLog(t, "last good view cannot be saved")
	if one.lastGoodFailures(t, "save") == 0 {
		t.Error("the failure to save the view is not counted")
	}
	one.expectLastGood(t, etcd, "web-1")

	// read-only: the agent starts
	one.kill()
	host.run(t, "rm %s/data/filler && mount -o remount,ro %s/data", one.dir, one.dir)
	one.start(t)
	one.awaitLog(t, "cannot write to the data directory")
	one.find(t, "web", "web-1")
	if status, err := one.Agent(t.Context()); err != nil || status.Owner != before.Owner {
		t.Errorf("owner %s, %v; was %s", status.Owner, err, before.Owner)
	}

	// damaged: the agent rejects it, and has no view until etcd is back
	one.kill()
	host.run(t, "mount -o remount,rw %s/data", one.dir)
	whole, err := os.ReadFile(lastGood)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[bytes.Index(whole, []byte(`"web-1"`))+5] ^= 1 // a valid record of web-0
	for damage, content := range map[string][]byte{"torn": whole[:len(whole)*2/3], "flipped": flipped, "empty": nil} {
		if err := os.WriteFile(lastGood, content, 0o600); err != nil {
			t.Fatal(err)
		}
		one.start(t)
		one.awaitLog(t, "last good view cannot be used")
		if one.lastGoodFailures(t, "load") == 0 {
			t.Errorf("%s: the failure to load the view is not counted", damage)
		}
		if err := one.answers(t.Context(), "web", "web-1"); !errors.Is(err, discovery.ErrUnavailable) {
			t.Errorf("%s: answered with %v", damage, err)
		}
		one.kill()
	}
	etcd.start(t)
	one.start(t)
	one.register(t, "db", "db-1")
	one.find(t, "db", "db-1")
}

// awaitLog waits until the agent's log contains a message.
func (s *sidecar) awaitLog(t *testing.T, warning string) {
	t.Helper()
	if !await(func() bool { return strings.Contains(s.output.String(), warning) }) {
		t.Fatalf("the log has no %q", warning)
	}
}

// lastGoodFailures returns the number of failures to save or load the last good view.
func (s *sidecar) lastGoodFailures(t *testing.T, call string) float64 {
	t.Helper()
	return s.metric(t, `disc_catalog_last_good_failures_total{call="`+call+`"}`)
}

// expectLastGood kills etcd and the agent, and restarts the agent. It must answer with the last
// good view, and say that it is stale.
func (s *sidecar) expectLastGood(t *testing.T, etcd *member, ids ...string) {
	t.Helper()
	etcd.kill()
	s.kill()
	s.start(t)
	s.find(t, "web", ids...)
	if err := s.stale(t); err != nil {
		t.Error(err)
	}
}
