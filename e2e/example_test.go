package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery/devetcd/etcdtest"
)

// example is an application with two workers on each of two hosts, in one language.
type example struct {
	t         *testing.T
	agents    []string // URLs, one for each host
	hosts     []string // base URLs
	processes []*exampleProcess
	http      http.Client
}

// reply has the fields of all answers of the application.
type reply struct {
	Worker     int
	Revision   int64
	Value      string
	GPU        string
	Fence      int64
	Begin, End float64
}

func TestExamplePython(t *testing.T) {
	python := pythonWithFastAPI(t)
	runExample(t, 2, func(port string) *exec.Cmd {
		c := exec.Command(python, "app.py")
		c.Env = []string{"WORKERS=2", "PORT=" + port}
		return c
	})
}

func TestExampleNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs Node.js (apt-get install nodejs): ", err)
	}
	runExample(t, 2, func(port string) *exec.Cmd {
		c := exec.Command(node, "app.mjs")
		c.Env = []string{"WORKERS=2", "PORT=" + port}
		return c
	})
}

func TestExampleGo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "app")
	inExample(t, "go", "build", "-o", binary, "./app")
	runExample(t, 1, func(port string) *exec.Cmd {
		return exec.Command(binary, "-listen", "127.0.0.1:"+port)
	})
}

// TestExampleImport runs three workers of a module that imports disc. They find each other
// through gRPC and in their own views, and divide the keys anew when one leaves.
func TestExampleImport(t *testing.T) {
	t.Parallel()
	inExample(t, "go", "vet", "./...")
	binary := filepath.Join(t.TempDir(), "worker")
	inExample(t, "go", "build", "-o", binary, "./worker")
	etcd := etcdtest.Start(t)
	p := newProgram(t, etcd.Endpoint()).ready(t)
	p.agent(t)
	x := &example{t: t, http: http.Client{Timeout: waitTimeout}}
	commands := map[string]*exec.Cmd{}
	for _, id := range []string{"worker-1", "worker-2", "worker-3"} {
		port := freePort(t)
		commands[id] = exec.Command(binary, "-id", id, "-grpc", "127.0.0.1:0", "-http", "127.0.0.1:"+port,
			"-agent", p.env["DISC_AGENT"], "-etcd", etcd.Endpoint())
		x.start(commands[id], p.env["DISC_AGENT"])
		x.hosts = append(x.hosts, "http://127.0.0.1:"+port)
	}
	x.worksAs("worker-1", "worker-2", "worker-3")

	if err := commands["worker-2"].Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	x.hosts = slices.Delete(x.hosts, 1, 2)
	x.worksAs("worker-1", "worker-3")
	p.expect(t, 0, "worker-1", "lookup", "worker")
	if !await(func() bool {
		code, out, _ := p.run(t.Context(), "get", "worker/worker-2")
		return code != 0 && out == ""
	}) {
		t.Error("worker-2 was told to end, but is still registered")
	}
}

// worksAs waits until every worker calls exactly the given workers and assigns the keys to
// them, and checks that all assign each key to the same worker.
func (x *example) worksAs(workers ...string) {
	x.t.Helper()
	var called, owners string
	for _, host := range x.hosts {
		if !await(func() bool {
			called = x.answers(host, func(int) string { return "/call" })
			return called == strings.Join(workers, " ")
		}) {
			x.t.Fatalf("%s calls %q, want %q", host, called, workers)
		}
		if !await(func() bool {
			owners = x.answers(host, func(n int) string { return fmt.Sprintf("/owner/key-%d", n) })
			return owners == strings.Join(workers, " ")
		}) {
			x.t.Fatalf("%s assigns the keys to %q, want %q", host, owners, workers)
		}
	}
	for n := range 30 {
		owner := x.text(fmt.Sprintf("%s/owner/key-%d", x.hosts[0], n))
		for _, host := range x.hosts[1:] {
			if got := x.text(fmt.Sprintf("%s/owner/key-%d", host, n)); got != owner {
				x.t.Errorf("key-%d belongs to %q according to %s, and to %q according to %s", n, owner, x.hosts[0], got, host)
			}
		}
	}
}

// answers asks a host 30 times and returns the different answers, sorted.
func (x *example) answers(host string, path func(n int) string) string {
	all := map[string]bool{}
	for n := range 30 {
		all[x.text(host+path(n))] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), " ")
}

// text returns the body of an answer, or the text of the error.
func (x *example) text(url string) string {
	request, err := http.NewRequestWithContext(x.t.Context(), "GET", url, nil)
	if err != nil {
		return err.Error()
	}
	answer, err := x.http.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// inExample runs a command in the example's module.
func inExample(t *testing.T, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = "example"
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", c, err, out)
	}
}

// runExample starts an etcd, two agents, and the application beside each agent, and uses the
// application as its users do.
func runExample(t *testing.T, workers int, command func(port string) *exec.Cmd) {
	t.Parallel()
	etcd := etcdtest.StartLink(t, etcdtest.Start(t).Endpoint())
	x := &example{t: t, http: http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitTimeout}}
	for n := range 2 {
		p := newProgram(t, etcd.Endpoint()).ready(t)
		p.env["DISC_NODE"] = fmt.Sprintf("host-%d", n+1)
		p.agent(t)
		x.agents = append(x.agents, p.env["DISC_AGENT"])
		p.expect(t, 0, "", "status")
		port := freePort(t)
		x.processes = append(x.processes, x.start(command(port), p.env["DISC_AGENT"]))
		x.hosts = append(x.hosts, "http://127.0.0.1:"+port)
	}
	x.missesLimit()
	x.prepare(x.agents[0])
	x.sharesValue(workers)
	x.sharesLimit()
	x.claimsWorkers()
	x.renewsClaim()
	x.losesClaim()
	x.usesFence()
	x.registersItself()
	x.endsCleanly()
	x.isDeregistered()
	x.answersWithoutEtcd(etcd)
}

// prepare creates the limit and registers the GPUs.
func (x *example) prepare(agent string) {
	x.t.Helper()
	x.must("PUT", agent+"/v1/limits/sms", `{"rate":1,"per":"1s","burst":1}`)
	for n := range 3 {
		x.must("PUT", fmt.Sprintf("%s/v1/services/gpu/instances/gpu-%d", agent, n), fmt.Sprintf(`{"address":"127.0.0.1","port":%d}`, 9000+n))
	}
}

func (x *example) must(method, url, body string) {
	x.t.Helper()
	if status, _, err := x.ask(method, url, body); err != nil || status/100 != 2 {
		x.t.Fatalf("%s %s: %d, %v", method, url, status, err)
	}
}

func (x *example) ask(method, url, body string) (int, reply, error) {
	request, err := http.NewRequestWithContext(x.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, reply{}, err
	}
	answer, err := x.http.Do(request)
	if err != nil {
		return 0, reply{}, err
	}
	defer answer.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(answer.Body); err != nil {
		return 0, reply{}, err
	}
	var r reply
	if answer.StatusCode/100 == 2 && b.Len() > 0 {
		err = json.Unmarshal(b.Bytes(), &r)
	}
	return answer.StatusCode, r, err
}

// sharesValue writes a value through one worker, and reads until every worker has answered with
// it.
func (x *example) sharesValue(workers int) {
	x.t.Helper()
	for _, value := range []string{"hello", "hello again"} {
		var set reply
		if !await(func() bool {
			status, r, err := x.ask("PUT", x.hosts[0]+"/greeting", value)
			set = r
			return err == nil && status == http.StatusOK
		}) {
			x.t.Fatal("the application does not start")
		}
		seen := map[int]bool{}
		if !await(func() bool {
			for _, host := range x.hosts {
				status, r, err := x.ask("GET", fmt.Sprintf("%s/greeting?min_rev=%d", host, set.Revision), "")
				if err != nil {
					return false // still starting
				}
				if status != http.StatusOK || r.Value != value {
					x.t.Fatalf("%s answers %d, %q; want %q, which was written at revision %d", host, status, r.Value, value, set.Revision)
				}
				seen[r.Worker] = true
			}
			return len(seen) == workers*len(x.hosts)
		}) {
			x.t.Errorf("%d workers answered, want %d", len(seen), workers*len(x.hosts))
		}
	}
}

// sharesLimit sends through every worker as fast as it can, until some messages are sent.
func (x *example) sharesLimit() {
	x.t.Helper()
	const enough = 3
	var mu sync.Mutex
	sent, refused := 0, 0
	began := time.Now()
	going := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return sent < enough && time.Since(began) < waitTimeout
	}
	var senders errgroup.Group
	for n := range 4 {
		senders.Go(func() error {
			for going() {
				status, _, err := x.ask("POST", x.hosts[n%len(x.hosts)]+"/send", "")
				if err != nil {
					return err
				}
				mu.Lock()
				switch status {
				case http.StatusOK:
					sent++
				case http.StatusTooManyRequests:
					refused++
				default:
					err = fmt.Errorf("POST /send: %d", status)
				}
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := senders.Wait(); err != nil {
		x.t.Fatal(err)
	}
	took := time.Since(began)
	x.t.Logf("sent %d and refused %d in %v", sent, refused, took)
	if most := took.Seconds() + 1; float64(sent) > most || sent < enough || refused == 0 {
		x.t.Errorf("sent %d and refused %d in %v; at 1 a second at most %.0f may be sent", sent, refused, took, most)
	}
}

// claimsWorkers makes more requests at once than there are GPUs. Each request has a GPU of its
// own while it runs, and the fences of a GPU rise.
func (x *example) claimsWorkers() {
	x.t.Helper()
	var mu sync.Mutex
	byGPU := map[string][]reply{}
	var callers errgroup.Group
	for n := range 9 {
		callers.Go(func() error {
			var status int
			var r reply
			var err error
			await(func() bool { // a slow machine may lose the claim
				status, r, err = x.ask("POST", x.hosts[n%len(x.hosts)]+"/work?seconds=0.1", "")
				return err != nil || status != http.StatusConflict
			})
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("POST /work: %d", status)
			}
			mu.Lock()
			defer mu.Unlock()
			byGPU[r.GPU] = append(byGPU[r.GPU], r)
			return err
		})
	}
	if err := callers.Wait(); err != nil {
		x.t.Fatal(err)
	}
	for gpu, work := range byGPU {
		slices.SortFunc(work, func(a, b reply) int { return cmp.Compare(a.Fence, b.Fence) })
		for n := range work[1:] {
			if work[n].End > work[n+1].Begin {
				x.t.Errorf("%s was claimed twice at once: %+v and %+v", gpu, work[n], work[n+1])
			}
		}
	}
	if len(byGPU) != 3 {
		x.t.Errorf("%d GPUs worked, want 3", len(byGPU))
	}
}
