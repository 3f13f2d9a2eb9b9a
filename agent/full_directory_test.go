package agent_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// refuseWrites has every write of registrations in a data directory fail, for root too, until
// allow is called. It deletes the journal, so that all are to be written anew, and puts a
// directory in the way of that.
func refuseWrites(t *testing.T, dir string) (allow func()) {
	t.Helper()
	obstacle := filepath.Join(dir, "registrations.json.new")
	if err := errors.Join(os.MkdirAll(filepath.Join(obstacle, "full"), 0o700), os.RemoveAll(filepath.Join(dir, "registrations.journal"))); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(obstacle); err != nil {
			t.Fatal(err)
		}
	}
}

// register registers web/ID, and returns the warning.
func (r *running) register(t *testing.T, id string) string {
	t.Helper()
	done, err := r.api.Register(t.Context(), discovery.Registration{Service: "web", ID: id, Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	return done.Warning
}

// What the agent cannot save it says so about, and saves as soon as it can.
func TestChangesThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	cfg := settings(t, etcd.Endpoint(), "on_stop: keep\n")
	a := start(t, cfg)
	for _, id := range []string{"old", "gone"} {
		if warning := a.register(t, id); warning != "" {
			t.Errorf("%s: %s", id, warning)
		}
	}
	allow := refuseWrites(t, cfg.DataDir)
	if warning := a.register(t, "new"); !strings.Contains(warning, "it is not saved, and is gone after a restart") {
		t.Errorf("registered with the warning %q", warning)
	}
	if done, err := a.api.Deregister(t.Context(), "web", "gone"); err != nil || !strings.Contains(done.Warning, "it is back after a restart") {
		t.Errorf("deregistered with %+v, %v", done, err)
	}
	if err := a.api.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "2 changes of registrations are not saved") {
		t.Errorf("ready: %v", err)
	}
	if status, err := a.api.Agent(t.Context()); err != nil || !strings.Contains(status.Unsaved, "2 changes") {
		t.Errorf("unsaved %q, %v", status.Unsaved, err)
	}
	a.wantMetric(t, "disc_registrations_unsaved 2")

	allow()
	retrytest.Succeeds(t, func() error { return a.api.Ready(t.Context()) })
	a.wantMetric(t, "disc_registrations_unsaved 0")
	if status, err := a.api.Agent(t.Context()); err != nil || status.Unsaved != "" {
		t.Errorf("unsaved %q, %v", status.Unsaved, err)
	}
	if warning := a.register(t, "last"); warning != "" {
		t.Errorf("registered with the warning %q", warning)
	}
	a.stop()
	after := start(t, cfg).registrations(t)
	for _, id := range []string{"old", "new", "last"} {
		if _, ok := after["web/"+id]; !ok {
			t.Errorf("%s is missing after a restart: %v", id, after)
		}
	}
	if _, ok := after["web/gone"]; ok {
		t.Error("gone is back after a restart")
	}
}

// An agent without a data directory that it may write to is ready, and tells its callers.
func TestRegisterWithoutADataDirectory(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	cfg := settings(t, etcd.Endpoint(), "")
	cfg.DataDir = "/dev/null/data"
	a := start(t, cfg)
	if warning := a.register(t, "a"); !strings.Contains(warning, "it is not saved") {
		t.Errorf("registered with the warning %q", warning)
	}
	retrytest.Succeeds(t, func() error { return a.api.Ready(t.Context()) })
}

// A registration of another version is named wherever somebody may look.
func TestUnusableRegistrationIsNamed(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	cfg := settings(t, etcd.Endpoint(), "")
	const later = `{"service":"web","id":"later","port":80,"checks":[{"id":"q","type":"quic"}]}`
	file := filepath.Join(cfg.DataDir, "registrations.json")
	if err := errors.Join(os.MkdirAll(cfg.DataDir, 0o700), os.WriteFile(file, []byte("["+later+"]"), 0o600)); err != nil {
		t.Fatal(err)
	}
	a := start(t, cfg)
	a.register(t, "other")
	if err := a.api.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "saved registration web/later: ") {
		t.Errorf("ready: %v", err)
	}
	if status, err := a.api.Agent(t.Context()); err != nil || len(status.Unusable) != 1 || !strings.HasPrefix(status.Unusable[0], "web/later: ") {
		t.Errorf("unusable %q, %v", status.Unusable, err)
	}
	a.wantMetric(t, "disc_registrations_unusable 1")
	a.stop()
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), later) || !strings.Contains(string(b), `"other"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// wantMetric fails the test unless the agent's metrics have the line.
func (r *running) wantMetric(t *testing.T, line string) {
	t.Helper()
	resp, err := r.api.HTTP.Get(r.api.BaseURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := etcdtest.Must(io.ReadAll(resp.Body))
	if !strings.Contains(string(b), "\n"+line+"\n") {
		t.Errorf("the metrics lack %s", line)
	}
}
