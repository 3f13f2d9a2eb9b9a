package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// registrations returns how the agent's registrations stand, by service and id.
func (r *running) registrations(t *testing.T) map[string]api.RegistrationState {
	t.Helper()
	status, err := r.api.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]api.RegistrationState{}
	for _, s := range status.Registrations {
		all[s.Service+"/"+s.ID] = s.State
	}
	return all
}

func TestAConflictLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	cfg := settings(t, etcd.Endpoint(), "")
	b := start(t, cfg)
	if _, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 80}); err != nil {
		t.Fatal(err)
	}
	b.answers(t, "web", 1)
	other := discovery.Registration{Service: "web", ID: "web-1", Port: 81}
	if _, err := b.api.Register(t.Context(), other); !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), "n1") {
		t.Errorf("register: %v, want a conflict that names the holder's node", err)
	}
	if _, err := b.api.Hold(t.Context(), other); !errors.Is(err, discovery.ErrConflict) {
		t.Errorf("hold: %v, want a conflict", err)
	}
	if got := b.registrations(t); len(got) != 0 {
		t.Errorf("b still has %v", got)
	}
	if err := b.api.Ready(t.Context()); err != nil {
		t.Errorf("b is not ready: %v", err)
	}
	if _, err := a.api.Deregister(t.Context(), "web", "web-1"); err != nil {
		t.Fatal(err)
	}
	b.answers(t, "web", 0)
	if got := b.registrations(t); len(got) != 0 {
		t.Errorf("b took over what it was refused: %v", got)
	}
	b.stop() // which writes a snapshot
	kept, err := os.ReadFile(filepath.Join(cfg.DataDir, "registrations.json"))
	if err != nil || strings.Contains(string(kept), "web-1") {
		t.Errorf("b keeps %s (%v), want nothing", kept, err)
	}
}

func TestWritesNeedTheToken(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := settings(t, etcd.Endpoint(), "http: {token_file: "+file+"}\n")
	a := start(t, cfg)
	register := func(token string) error {
		a.api.Token = token
		_, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 80})
		return err
	}
	for _, wrong := range []string{"", "second"} {
		if err := register(wrong); !errors.Is(err, discovery.ErrForbidden) {
			t.Errorf("token %q: %v, want it forbidden", wrong, err)
		}
	}
	if err := register("first"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := register("first"); !errors.Is(err, discovery.ErrForbidden) {
		t.Errorf("the old token: %v, want it forbidden", err)
	}
	if err := register("second"); err != nil {
		t.Error(err)
	}
}

// TestStopsWhileEtcdIsAway ends an agent whose goodbye nobody takes.
func TestStopsWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := startWith(t, settings(t, etcd.Endpoint(), "services: [{service: web, id: web-1, port: 80}]\n"), 100*time.Millisecond)
	a.answers(t, "web", 1)
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	a.stop()
}
