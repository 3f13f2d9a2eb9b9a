package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/e2e/lastrelease"
)

// TestFaultRolling rolls a fleet from the last release up to this version, back, and up again. No
// lookup at the other agents is wrong meanwhile, no registration is lost, and each version reads the
// data directory of the other, also after a kill and without etcd.
func TestFaultRolling(t *testing.T) {
	t.Parallel()
	last := lastrelease.Program(t)
	etcd := startMember(t)
	client := etcdtest.Client(t, etcd.endpoint)
	var fleet []*sidecar
	var ids []string
	var registered [][]string // by agent
	for n := range 3 {
		s := newSidecar(t, nil, fmt.Sprintf("n%d", n), etcd.endpoint, "on_stop: keep", "session: {ttl: 1m}")
		s.argv[0] = last
		s.start(t)
		ids = append(ids, fmt.Sprintf("web-%d", n))
		s.register(t, "web", ids[n])
		registered = append(registered, []string{ids[n]})
		fleet = append(fleet, s)
	}
	for _, s := range fleet {
		s.find(t, "web", ids...)
	}
	roll := func(program string, end syscall.Signal) {
		for n, s := range fleet {
			var stops []func()
			for m, other := range fleet {
				if m != n {
					stops = append(stops, other.steady(t, "web", ids...))
				}
			}
			s.signal(end)
			<-s.ended
			s.argv[0] = program
			s.start(t)
			s.find(t, "web", ids...)
			within(t, time.Now(), waitTimeout, "all is registered", func() error { return s.Ready(t.Context()) })
			if err := s.registers(t.Context(), registered[n]...); err != nil {
				t.Errorf("n%d after it was restarted with %s: %v", n, program, err)
			}
			for _, stop := range stops {
				stop()
			}
		}
	}
	roll("disc", syscall.SIGTERM)
	one := fleet[0]
	one.register(t, "mail", "mail-1") // while an agent of the last release may follow
	registered[0] = append(registered[0], "mail-1")
	roll(last, syscall.SIGKILL)
	one.register(t, "mail", "mail-2")
	registered[0] = append(registered[0], "mail-2")
	roll("disc", syscall.SIGKILL)

	mustStayAt(t, client, 1)
	raiseSoon(t, client)
	one.signal(syscall.SIGTERM)
	<-one.ended
	one.start(t) // it checks the fleet soon
	within(t, time.Now(), waitTimeout, "the level rises", func() error {
		if level := levelOf(t, client); level.Level != 2 || level.Target != 0 {
			return fmt.Errorf("it is %+v", level)
		}
		return nil
	})
}

// TestFaultLastGoodOfVersions restarts an agent without etcd under another version. It answers from
// what the version before saved.
func TestFaultLastGoodOfVersions(t *testing.T) {
	t.Parallel()
	last := lastrelease.Program(t)
	for name, programs := range map[string][2]string{"up": {last, "disc"}, "back": {"disc", last}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := startMember(t)
			s := newSidecar(t, nil, "one", etcd.endpoint, "on_stop: keep")
			s.argv[0] = programs[0]
			s.start(t)
			s.register(t, "web", "web-1")
			s.find(t, "web", "web-1")
			within(t, time.Now(), waitTimeout, "the view is saved", func() error {
				content, err := os.ReadFile(filepath.Join(s.dir, "data", "last-good"))
				if err == nil && !strings.Contains(string(content), "web-1") {
					err = fmt.Errorf("the saved view has %d bytes, without the instance", len(content))
				}
				return err
			})
			etcd.kill()
			s.signal(syscall.SIGKILL)
			<-s.ended
			s.argv[0] = programs[1]
			s.start(t)
			s.find(t, "web", "web-1")
			if l := s.ask(t.Context(), "web"); !l.view.Stale {
				t.Errorf("the answer is not marked stale: %+v", l)
			}
		})
	}
}

// registers returns an error unless the agent has read instances from its data directory.
func (s *sidecar) registers(ctx context.Context, ids ...string) error {
	status, err := s.Agent(ctx)
	if err != nil {
		return err
	}
	found := []string{}
	for _, r := range status.Registrations {
		found = append(found, r.ID)
	}
	slices.Sort(found)
	slices.Sort(ids)
	if !slices.Equal(found, ids) {
		return fmt.Errorf("it registers %v, want %v", found, ids)
	}
	return nil
}

func levelOf(t *testing.T, client *clientv3.Client) discovery.LevelRecord {
	t.Helper()
	r := etcdtest.Must(client.Get(t.Context(), layout.Level()))
	for _, kv := range r.Kvs {
		return etcdtest.Must(discovery.DecodeLevel(kv.Value))
	}
	return discovery.LevelRecord{}
}

// mustStayAt checks the level, which no fleet of a few seconds raises; 1 may be the absence of the key.
func mustStayAt(t *testing.T, client *clientv3.Client, level int) {
	t.Helper()
	if r := levelOf(t, client); max(r.Level, 1) != level {
		t.Errorf("the level is %+v, want %d", r, level)
	}
}

// raiseSoon leaves one clean check until the level rises, as after a day.
func raiseSoon(t *testing.T, client *clientv3.Client) {
	t.Helper()
	put(t, client, layout.Level(), `{"level":1,"target":2,"clean":143}`)
	epoch := etcdtest.Must(client.Get(t.Context(), layout.Epoch())).Kvs[0].Value
	lease := etcdtest.Must(client.Grant(t.Context(), 1800)).ID
	if _, err := client.Put(t.Context(), layout.LevelCounting(), string(epoch), clientv3.WithLease(lease)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Delete(t.Context(), layout.LevelChecked()); err != nil {
		t.Fatal(err)
	}
}
