package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// ttl is the session's TTL in the tests of faults, the T of the bounds in docs/faults.md.
const ttl = 5 * time.Second

// slack is the time that a loaded machine may add to any bound before a test fails.
const slack = 15 * time.Second

// within polls check until it passes, and logs the time since a moment beside its bound. It
// fails the test after the bound and [slack].
func within(t *testing.T, since time.Time, bound time.Duration, what string, check func() error) {
	t.Helper()
	err := poll(time.Until(since.Add(bound+slack)), check)
	took := time.Since(since).Round(time.Millisecond)
	if err != nil {
		t.Fatalf("%s: still not after %v, bound %v: %v", what, took, bound, err)
	}
	t.Logf("%s: %v; bound %v", what, took, bound)
}

// background runs a program until it or the test ends. When the test has failed, it logs the
// program's output.
func background(t *testing.T, command *exec.Cmd) *process {
	t.Helper()
	p, err := launch(command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(command.Args, " "), p.output.String())
		}
	})
	return p
}

// exited returns an error while the process runs.
func (p *process) exited() error {
	if p.hasEnded() {
		return nil
	}
	return errors.New("the process still runs")
}

// member is the only member of an etcd, as a process.
type member struct {
	*process
	endpoint string
	argv     []string // of the process
}

// startMember starts an etcd with additional flags.
func startMember(t *testing.T, flags ...string) *member {
	t.Helper()
	client, peer := freePort(t), freePort(t)
	return startMemberAt(t, nil, "127.0.0.1:"+client, "127.0.0.1:"+peer, flags...)
}

// startMemberAt starts an etcd at the given addresses. Its command follows prefix, such as
// nsenter and its arguments, or nil.
func startMemberAt(t *testing.T, prefix []string, client, peer string, flags ...string) *member {
	t.Helper()
	m := &member{endpoint: client, argv: slices.Concat(prefix, []string{"etcdserver", "--data-dir", t.TempDir(), "--log-level", "error",
		"--listen-client-urls", "http://" + client, "--advertise-client-urls", "http://" + client,
		"--listen-peer-urls", "http://" + peer, "--initial-advertise-peer-urls", "http://" + peer, "--initial-cluster", "default=http://" + peer,
		"--heartbeat-interval", "50", "--election-timeout", "500", "--unsafe-no-fsync"}, flags)}
	m.start(t)
	return m
}

// start starts the process with the data of the previous one.
func (m *member) start(t *testing.T) {
	m.process = background(t, exec.Command(m.argv[0], m.argv[1:]...))
}

// sidecar is an agent process, with a client at its Unix socket.
type sidecar struct {
	*process
	*api.Client
	dir  string // with config.yaml, disc.sock and data
	argv []string
	env  []string
}

// startSidecar starts an agent with a node name. The settings are lines of YAML.
func startSidecar(t *testing.T, node, etcd string, settings ...string) *sidecar {
	t.Helper()
	return startSidecarThrough(t, nil, node, etcd, settings...)
}

func startSidecarThrough(t *testing.T, prefix []string, node, etcd string, settings ...string) *sidecar {
	t.Helper()
	s := newSidecar(t, prefix, node, etcd, settings...)
	s.start(t)
	return s
}

// newSidecar returns an agent that is not started yet. Its command follows prefix, or nil.
func newSidecar(t *testing.T, prefix []string, node, etcd string, settings ...string) *sidecar {
	t.Helper()
	dir, err := os.MkdirTemp("", "disc-fault-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &sidecar{dir: dir, argv: slices.Concat(prefix, []string{"disc", "agent", "--config", filepath.Join(dir, "config.yaml")})}
	defaults := map[string]string{
		"node": node, "etcd": "{endpoints: [" + etcd + "]}", "data_dir": filepath.Join(dir, "data"), "session": "{ttl: " + ttl.String() + "}",
		"http": "{listen: 127.0.0.1:0, socket: " + filepath.Join(dir, "disc.sock") + "}", "dns": "{listen: 127.0.0.1:0}",
		"drain_delay": "0s", "log": "{format: json}",
	}
	for _, line := range settings {
		key, value, _ := strings.Cut(line, ":")
		defaults[key] = strings.TrimSpace(value)
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(defaults)) {
		fmt.Fprintf(&text, "%s: %s\n", key, defaults[key])
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Client, err = api.NewClient("unix://" + filepath.Join(dir, "disc.sock")); err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts the agent, with the data of the previous one if any, and waits until it
// answers.
func (s *sidecar) start(t *testing.T) {
	t.Helper()
	command := exec.Command(s.argv[0], s.argv[1:]...)
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	command.Env = append(command.Env, s.env...)
	s.process = background(t, command)
	if !await(func() bool {
		_, err := s.Agent(t.Context())
		return err == nil || s.hasEnded()
	}) || s.hasEnded() {
		t.Fatal("the agent does not run")
	}
}

// register registers an instance at a port where no process listens, and waits until the
// record is in etcd.
func (s *sidecar) register(t *testing.T, service, id string, checks ...discovery.CheckSpec) view.Entry {
	t.Helper()
	return s.registerAt(t, service, id, 1, checks...)
}

func (s *sidecar) registerAt(t *testing.T, service, id string, port int, checks ...discovery.CheckSpec) view.Entry {
	t.Helper()
	var done api.Registered
	if !await(func() (written bool) {
		var err error
		done, err = s.Register(t.Context(), discovery.Registration{Service: service, ID: id, Address: "127.0.0.1", Port: port, Checks: checks})
		return err == nil && done.Written
	}) {
		t.Fatalf("%s/%s is not registered", service, id)
	}
	return done.Entry
}

// answers returns an error unless a lookup returns exactly these instances.
func (s *sidecar) answers(ctx context.Context, service string, ids ...string) error {
	return s.ask(ctx, service).has(ids)
}

// find waits until a lookup returns exactly these instances.
func (s *sidecar) find(t *testing.T, service string, ids ...string) {
	t.Helper()
	within(t, time.Now(), waitTimeout, "the lookup of "+service, func() error { return s.answers(t.Context(), service, ids...) })
}

// steady looks a service up again and again until stop is called. Every answer must have
// exactly these instances.
func (s *sidecar) steady(t *testing.T, service string, ids ...string) (stop func()) {
	h := s.record(t, service)
	return func() {
		t.Helper()
		h.stop()
		h.always(t, ids...)
	}
}

// follow runs 'disc watch' for a service until the test ends.
func (s *sidecar) follow(t *testing.T, service string) *process {
	t.Helper()
	p := background(t, exec.Command("disc", "watch", service, "-o", "jsonl", "--agent", "unix://"+filepath.Join(s.dir, "disc.sock"), "--endpoints", "127.0.0.1:1"))
	if !await(func() bool { return strings.Contains(p.output.String(), `"event":"reset"`) }) {
		t.Fatal("the watch has not started")
	}
	return p
}

// lease returns the id of the session's lease.
func (s *sidecar) lease(t *testing.T) string {
	t.Helper()
	status, err := s.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Session.Lease
}

// metric returns the value of a metric, with its labels, in /metrics; 0 when it is absent.
func (s *sidecar) metric(t *testing.T, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.BaseURL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	return 0
}

// leaseEnded returns an error while etcd has a lease.
func leaseEnded(t *testing.T, etcd *clientv3.Client, hex string) error {
	t.Helper()
	id, err := strconv.ParseInt(hex, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	left, err := etcd.TimeToLive(t.Context(), clientv3.LeaseID(id))
	if err == nil && left.TTL >= 0 {
		err = fmt.Errorf("the lease has %d s left", left.TTL)
	}
	return err
}

// pause waits while the test needs time to pass.
func pause(d time.Duration) { <-time.After(d) }
