package browser_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/agent/reaper"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// program is the name under which the test's binary is disc.
const program = "disc"

// The tokens of an agent with [withTokens]. opsToken may do everything, readerToken may read.
const (
	opsToken    = "disc-ops"
	readerToken = "disc-reader"
)

// withTokens returns the setting that an agent has these tokens.
func withTokens() string {
	return fmt.Sprintf("tokens: [{name: ops, sha256: %x, scopes: [all]}, {name: reader, sha256: %x, scopes: [read]}]",
		sha256.Sum256([]byte(opsToken)), sha256.Sum256([]byte(readerToken)))
}

// agent is an agent as a process, at an address that stays the same when it is started again.
type agent struct {
	*api.Client
	t       *testing.T
	address string
	dir     string
	command *exec.Cmd
	ended   chan struct{}
	output  lockedBuffer
}

// startAgent starts an agent on host-1. http is more of its section http, in YAML.
func startAgent(t *testing.T, etcd string, http ...string) *agent {
	t.Helper()
	return startNode(t, "host-1", etcd, "", http...)
}

// startNode starts an agent on a node, with more settings, in YAML; by default its view is stale after 2 s.
// Its lease outlives all that may hold it up, and the agent, when that is killed; see expire.
func startNode(t *testing.T, node, etcd, settings string, http ...string) *agent {
	t.Helper()
	a := &agent{t: t, address: etcdtest.Address(t), dir: t.TempDir()}
	config := fmt.Sprintf("node: %s\nzone: a\nadvertise: 127.0.0.1\netcd: {endpoints: [%q]}\ndata_dir: %s\ndrain_delay: 0s\ndns: {listen: ''}\nlog: {format: json}\n"+
		"session: {ttl: 60s}\nhttp:\n  listen: %s\n", node, etcd, filepath.Join(a.dir, "data"), a.address)
	for _, line := range http {
		config += "  " + line + "\n"
	}
	config += cmp.Or(settings, "catalog: {stale_after: 2s}\n")
	if err := os.WriteFile(filepath.Join(a.dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.Client, err = api.NewClient("http://" + a.address); err != nil {
		t.Fatal(err)
	}
	a.Token = opsToken
	a.start()
	t.Cleanup(func() {
		a.stop()
		if t.Failed() {
			t.Logf("the agent:\n%s", a.output.String())
		}
	})
	return a
}

// start starts the process, and waits until it answers lookups.
func (a *agent) start() {
	a.t.Helper()
	path, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	a.command = exec.Command(path, "agent", "--config", filepath.Join(a.dir, "config.yaml"))
	a.command.Args[0] = program
	a.command.Stdout, a.command.Stderr = &a.output, &a.output
	a.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	reaper.DieWithParent(a.command.SysProcAttr)
	if err := a.command.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		_ = a.command.Wait() // it is killed
	}()
	a.is("/readyz/lookup")
}

// is waits until the process is ready, as a path tells.
func (a *agent) is(path string) {
	a.t.Helper()
	retrytest.Eventually(a.t, "the agent answers "+path, func() bool {
		select {
		case <-a.ended:
			a.t.Fatalf("the agent does not run:\n%s", a.output.String())
		default:
		}
		answer, err := http.Get("http://" + a.address + path)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// knowsItself waits until the agent knows its own record, which it writes after those of its instances.
func (a *agent) knowsItself() {
	a.t.Helper()
	retrytest.Eventually(a.t, "the agent knows its own record", func() bool {
		nodes, _, err := a.Nodes(a.t.Context(), api.Wait{})
		return err == nil && len(nodes) == 1
	})
}

// stop kills the process.
func (a *agent) stop() {
	_ = a.command.Process.Kill()
	<-a.ended
}

// expire ends the lease of a killed agent that an instance is of, as etcd does after its TTL.
func (a *agent) expire(client *clientv3.Client, service, id string) {
	a.t.Helper()
	record, err := client.Get(a.t.Context(), discovery.NewKeys("default").Instance(service, id))
	if err == nil && len(record.Kvs) != 1 {
		err = fmt.Errorf("etcd has %d records of %s/%s", len(record.Kvs), service, id)
	}
	if err == nil {
		_, err = client.Revoke(a.t.Context(), clientv3.LeaseID(record.Kvs[0].Lease))
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// url returns the address of a view.
func (a *agent) url(query string) string { return "http://" + a.address + "/" + query }

func (a *agent) register(service, id string, checks ...discovery.CheckSpec) {
	a.t.Helper()
	a.registers(discovery.Registration{Service: service, ID: id, Address: "10.0.0.1", Port: 8080, Zone: "a", Tags: discovery.Tags{"v2"}, Checks: checks})
}

// registerAt registers an instance where something listens.
func (a *agent) registerAt(service, id string, at net.Addr) {
	a.t.Helper()
	a.registers(discovery.Registration{Service: service, ID: id, Address: "127.0.0.1", Port: at.(*net.TCPAddr).Port})
}

// registers registers an instance, and waits until the agent's view has it, for which a registration waits
// for 2 s at most.
func (a *agent) registers(r discovery.Registration) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() error {
		_, err := a.Register(a.t.Context(), r)
		return err
	})
	retrytest.Succeeds(a.t, func() error {
		_, _, err := a.Instance(a.t.Context(), r.Service, r.ID, api.Wait{})
		return err
	})
}

// override changes the override of an instance, once etcd answers the agent.
func (a *agent) override(service, id, patch string) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() error {
		_, _, err := a.PatchOverride(a.t.Context(), service, id, []byte(patch))
		return err
	})
}

// answered waits until a lookup has a number of endpoints.
func (a *agent) answered(service string, n int) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() error {
		answer, _, err := a.Lookup(a.t.Context(), service, api.LookupOptions{})
		if err == nil && len(answer.Endpoints) != n {
			err = fmt.Errorf("a lookup of %s has %d endpoints, want %d", service, len(answer.Endpoints), n)
		}
		return err
	})
}

// healthy is a server that answers a check until it is closed.
func healthy(t *testing.T) (*httptest.Server, discovery.CheckSpec) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return s, discovery.CheckSpec{ID: "http", Type: discovery.CheckHTTP, URL: s.URL, Interval: discovery.Duration(200 * time.Millisecond)}
}

// put writes instances to etcd as another agent would, or as anybody who can write there.
func put(t *testing.T, client *clientv3.Client, instances ...discovery.Instance) {
	t.Helper()
	keys := discovery.NewKeys("default")
	for len(instances) > 0 {
		n := min(100, len(instances))
		var ops []clientv3.Op
		for _, i := range instances[:n] {
			ops = append(ops, clientv3.OpPut(keys.Instance(i.Service, i.ID), string(i.Encode())))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
		instances = instances[n:]
	}
}

// lockedBuffer has the output of a process.
type lockedBuffer struct {
	lock sync.Mutex
	b    bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.b.String()
}
