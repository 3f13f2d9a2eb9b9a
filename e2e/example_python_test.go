package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// pythonWithFastAPI returns Debian's Python, if it has what the application needs.
func pythonWithFastAPI(t *testing.T) string {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import fastapi, uvicorn").Run(); err != nil {
		t.Skip("needs FastAPI and uvicorn of Debian's Python (apt-get install python3-fastapi python3-uvicorn): ", err)
	}
	return python
}

// oneGPU answers as an agent that has one GPU. The first caller claims it, and all later ones wait.
type oneGPU struct {
	validFor string // of the claim
	renew    http.HandlerFunc

	asked, renewed atomic.Int64
}

func (g *oneGPU) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claim := fmt.Sprintf(`{"claim":"c-1","slot":0,"fence":1,"valid_for":%q,"endpoint":{"id":"gpu-1"}}`, g.validFor)
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/claims/gpu":
		_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the caller is gone
		if g.asked.Add(1) > 1 {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, claim)
	case "PUT /v1/claims/c-1":
		if g.renewed.Add(1) > 1 && g.renew != nil {
			g.renew(w, r)
			return
		}
		fmt.Fprint(w, claim)
	case "DELETE /v1/claims/c-1":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// works starts the application beside the agent, with a caller that works for a long time.
func (g *oneGPU) works(t *testing.T) (x *example, answer <-chan int) {
	t.Helper()
	python := pythonWithFastAPI(t)
	agent := httptest.NewServer(g)
	t.Cleanup(agent.Close)
	x = &example{t: t}
	port := freePort(t)
	c := exec.Command(python, "app.py")
	c.Env = []string{"PORT=" + port}
	x.start(c, agent.URL)
	x.hosts = []string{"http://127.0.0.1:" + port}
	if !await(func() bool {
		status, _, err := x.ask("GET", x.hosts[0]+"/healthz", "")
		return err == nil && status == http.StatusOK
	}) {
		t.Fatal("the application does not start")
	}
	answer = x.asks()
	if !await(func() bool { return g.renewed.Load() > 0 }) {
		t.Fatal("no GPU is claimed")
	}
	return x, answer
}

// asks makes a request that works for a long time, until the test ends.
func (x *example) asks() <-chan int {
	got := make(chan int, 1)
	go func() {
		status, _, _ := x.ask("POST", x.hosts[0]+"/work?seconds=3600", "")
		got <- status
	}()
	return got
}

// TestExamplePythonRenewsBesideWaiting has more callers wait for a GPU than the application has threads.
// The claim that is in use is renewed nevertheless.
func TestExamplePythonRenewsBesideWaiting(t *testing.T) {
	t.Parallel()
	const (
		callers = 150 // more than any pool of threads has
		pool    = 40  // the size of Starlette's
	)
	g := &oneGPU{validFor: "1h"}
	x, _ := g.works(t)
	for range callers {
		x.asks()
	}
	if !await(func() bool { return g.asked.Load() > pool }) {
		t.Fatalf("%d callers wait, want more than %d", g.asked.Load()-1, pool)
	}
	before := g.renewed.Load()
	if !await(func() bool { return g.renewed.Load() > before+1 }) { // one was perhaps on its way
		t.Errorf("%d callers wait, and the claim is not renewed", g.asked.Load()-1)
	}
}

// TestExamplePythonRenewalTakesTooLong has the agent answer a renewal without an end. The caller hears
// that the claim is lost.
func TestExamplePythonRenewalTakesTooLong(t *testing.T) {
	t.Parallel()
	g := &oneGPU{validFor: "3s", renew: func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, " ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	}}
	_, answer := g.works(t)
	select {
	case status := <-answer:
		if status != http.StatusConflict {
			t.Errorf("got %d", status)
		}
	case <-time.After(waitTimeout):
		t.Error("the claim is not renewed, and the work goes on")
	}
}
