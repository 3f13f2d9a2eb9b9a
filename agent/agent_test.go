package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent"
	"disc/agent/api"
	"disc/config"
	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lookup"
	"disc/discovery/retry/retrytest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// settings returns the settings of a test: free ports, a data directory of its own, no drain
// delay.
func settings(t *testing.T, etcd string, file string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"DISC_CONFIG": path, "DISC_ENDPOINTS": etcd, "DISC_HTTP": "127.0.0.1:0", "DISC_DNS": "127.0.0.1:0", "DISC_DATA_DIR": filepath.Join(dir, "data"),
		"DISC_NODE": "n1", "DISC_DRAIN_DELAY": "0s",
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags, config.Global, config.Agent)
	cfg, err := config.Load(t.Context(), flags, config.Host{Hostname: "n1", EUID: 1, Env: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// running is an agent that runs until it is stopped or the test ends.
type running struct {
	*agent.Agent
	api  *api.Client
	stop func()
}

func start(t *testing.T, cfg *config.Config) *running {
	t.Helper()
	return startWith(t, cfg, time.Minute)
}

// startWith starts an agent that waits for etcd for no longer than patience.
func startWith(t *testing.T, cfg *config.Config, patience time.Duration) *running {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := agent.New(t.Context(), cfg, agent.Options{Logger: log, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	a.SetTimeouts(patience, patience)
	client, err := api.NewClient("http://" + a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client.HTTP.Transport = patient{client.HTTP.Transport.(*http.Transport), patience}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	r := &running{Agent: a, api: client, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.CloseIdle()
	}}
	t.Cleanup(r.stop)
	return r
}

// patient repeats a request that etcd did not answer in time: an agent gives etcd a few
// seconds, and a busy machine may need longer.
type patient struct {
	*http.Transport
	patience time.Duration
}

func (p patient) RoundTrip(req *http.Request) (*http.Response, error) {
	for deadline := time.Now().Add(p.patience); ; {
		resp, err := p.Transport.RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return resp, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), "did not answer in time") {
			resp.Body = io.NopCloser(bytes.NewReader(body))
			return resp, err
		}
		if req = req.Clone(req.Context()); req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// answers waits until a lookup returns so many endpoints.
func (r *running) answers(t *testing.T, name string, want int) lookup.Answer {
	t.Helper()
	var answer lookup.Answer
	retrytest.Succeeds(t, func() (err error) {
		if answer, _, err = r.api.Lookup(t.Context(), name, api.LookupOptions{}); err != nil {
			return err
		}
		if len(answer.Endpoints) != want {
			return errors.New("not so many endpoints yet")
		}
		return nil
	})
	return answer
}

func TestRegisterAndFind(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), `
services:
  - {service: db, id: db-1, port: 5432, meta: {Team: core}}
`))
	b := start(t, settings(t, etcd.Endpoint(), ""))
	if got := b.answers(t, "db", 1).Endpoints[0]; got.Meta["Team"] != "core" || got.Address != "127.0.0.1" {
		t.Errorf("got %+v", got)
	}
	done, err := a.api.Register(t.Context(), discovery.Registration{Service: "Web", ID: "web-1", Port: 80})
	if err != nil || !done.Created || !done.Written {
		t.Fatalf("register: %+v, %v", done, err)
	}
	b.answers(t, "web", 1)
	if _, err := b.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 81}); !errors.Is(err, discovery.ErrConflict) {
		t.Errorf("a second owner: %v, want a conflict", err)
	}
	if _, err := a.api.Deregister(t.Context(), "web", "web-1"); err != nil {
		t.Error(err)
	}
	b.answers(t, "web", 0)
	a.stop()
	b.answers(t, "db", 0)
}

func TestRegistrationsSurviveARestart(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	cfg := settings(t, etcd.Endpoint(), "on_stop: keep\n")
	a := start(t, cfg)
	if _, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 80}); err != nil {
		t.Fatal(err)
	}
	a.stop()
	b := start(t, cfg)
	b.answers(t, "web", 1)
	retrytest.Succeeds(t, func() error { return b.api.Ready(t.Context()) })
}

func TestDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	cfg := settings(t, etcd.Endpoint(), "")
	start(t, cfg)
	if _, err := agent.New(t.Context(), cfg, agent.Options{}); err == nil {
		t.Error("a second agent got the data directory")
	} else {
		t.Log(err)
	}
}

func TestEtcdAwayAtTheStart(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	endpoint := etcd.Endpoint()
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	a := startWith(t, settings(t, endpoint, ""), 100*time.Millisecond)
	if _, _, err := a.api.Lookup(t.Context(), "web", api.LookupOptions{}); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("lookup: %v, want unavailable", err)
	}
	done, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 80})
	if err != nil || done.Written {
		t.Fatalf("register: %+v, %v; want it remembered", done, err)
	}
	etcdtest.StartWith(t, devetcd.Options{Listen: endpoint})
	a.answers(t, "web", 1)
	a.stop()
}

// The test listens as systemd does for a unit with Type=notify.
func TestNotifiesSystemd(t *testing.T) {
	etcd := etcdtest.Start(t)
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	a := start(t, settings(t, etcd.Endpoint(), ""))
	// All states are read, or the agent would wait to send the next.
	states, read := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(read)
		for b := make([]byte, 100); ; {
			n, err := socket.Read(b)
			if err != nil {
				return // the test has ended
			}
			select {
			case states <- string(b[:n]):
			default: // no test hears so many
			}
		}
	}()
	defer func() {
		socket.Close()
		<-read
	}()
	heard := func(want string) {
		t.Helper()
		for late := time.After(time.Minute); ; {
			select {
			case state := <-states:
				if state == want {
					return
				}
			case <-late:
				t.Fatalf("no %s", want)
			}
		}
	}
	heard("READY=1")
	heard("WATCHDOG=1")
	heard("WATCHDOG=1") // and again
	a.stop()
	heard("STOPPING=1")
}

func TestReloadTakesOverServicesOnly(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), "zone: a\nservices: [{service: web, id: web-1, port: 80}]\n"))
	a.answers(t, "web", 1)
	if err := a.Reload(t.Context(), settings(t, etcd.Endpoint(), "zone: b\nservices: [{service: api, id: api-1, port: 81}]\n")); err != nil {
		t.Fatal(err)
	}
	a.answers(t, "web", 0)
	a.answers(t, "api", 1)
	status, err := a.api.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]any{}
	for _, s := range status.Settings {
		shown[s.Name] = s.Value
	}
	if shown["zone"] != "a" || shown["services[0]"] != "api/api-1" {
		t.Errorf("shows zone %v and service %v; want what is in force, a and api/api-1", shown["zone"], shown["services[0]"])
	}
}

// What a full disk leaves of the config file changes nothing.
func TestReloadOfAFileThatIsCutOff(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), "services: [{service: web, id: web-1, port: 80}]\n"))
	a.answers(t, "web", 1)
	for _, file := range []string{"", "# the services\n", "services:\n", "zone: a\n"} {
		t.Run(file, func(t *testing.T) {
			if err := a.Reload(t.Context(), settings(t, etcd.Endpoint(), file)); err == nil || !strings.Contains(err.Error(), "config.yaml") {
				t.Errorf("reload: %v, want an error that names the file", err)
			}
			if _, ok := a.registrations(t)["web/web-1"]; !ok {
				t.Error("web-1 is not registered any more")
			}
		})
	}
	if err := a.Reload(t.Context(), settings(t, etcd.Endpoint(), "services: []\n")); err != nil {
		t.Fatal(err)
	}
	a.answers(t, "web", 0)
}

// An agent that has a last good view does not take an etcd without an epoch for a new namespace.
func TestKnownNamespaceIsNotNew(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	client, keys := etcdtest.Client(t, etcd), discovery.NewKeys("default")
	cfg := settings(t, etcd, "")
	count := func(prefix string) int64 {
		return etcdtest.Must(client.Get(etcdtest.Context(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())).Count
	}
	first := start(t, cfg)
	retrytest.Eventually(t, "the level of a new namespace", func() bool { return count(keys.Level()) == 1 && first.api.Ready(t.Context()) == nil })
	first.stop()
	if _, err := client.Delete(etcdtest.Context(t), keys.Prefix(), clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	again := etcdtest.Must(agent.New(t.Context(), cfg, agent.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}))
	defer again.Close()
	if err := again.AskLife(etcdtest.Context(t)); err != nil || count(keys.Epoch()) != 1 || count(keys.Level()) != 0 {
		t.Errorf("%d epochs and %d levels, %v", count(keys.Epoch()), count(keys.Level()), err)
	}
}
