package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"disc/agent/api"
	"disc/agent/reaper"
	"disc/discovery"
)

// exampleProcess is a process of the application, with its workers.
type exampleProcess struct {
	*exec.Cmd
	output buffer
	ended  chan struct{} // closed when all of its processes have ended
}

// start runs a process of the application, in its own process group, until the test ends.
func (x *example) start(c *exec.Cmd, agent string) *exampleProcess {
	x.t.Helper()
	p := &exampleProcess{Cmd: c, ended: make(chan struct{})}
	c.Dir = "example"
	c.Env = append(append(os.Environ(), c.Env...), "DISC_AGENT="+agent, "PYTHONDONTWRITEBYTECODE=1")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	reaper.DieWithParent(c.SysProcAttr)
	c.Stdout, c.Stderr = &p.output, &p.output
	if err := c.Start(); err != nil {
		x.t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = c.Wait() // the tests look at c.ProcessState
	}()
	x.t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		<-p.ended
		if x.t.Failed() {
			x.t.Logf("%s:\n%s", c, p.output.String())
		}
	})
	return p
}

// registersItself looks the application up.
func (x *example) registersItself() {
	x.t.Helper()
	var healthy []discovery.Endpoint
	if !await(func() bool {
		answer, _, err := x.client().Lookup(x.t.Context(), "app", api.LookupOptions{})
		healthy = answer.Endpoints
		return err == nil && len(healthy) == len(x.hosts)
	}) {
		x.t.Fatalf("registered: %v, want one for each of %v", healthy, x.hosts)
	}
}

// deregisters has the agent of a host deregister the application there, and returns the status.
func (x *example) deregisters(host int, query string) int {
	x.t.Helper()
	name, err := os.Hostname()
	if err != nil {
		x.t.Fatal(err)
	}
	of, err := url.Parse(x.hosts[host])
	if err != nil {
		x.t.Fatal(err)
	}
	status, _, err := x.ask("DELETE", x.agents[host]+"/v1/services/app/instances/"+name+"-"+of.Port()+query, "")
	if err != nil {
		x.t.Fatal(err)
	}
	return status
}

// endsCleanly tells the application of the second host to end while it works. When it has ended, it
// is not registered any more, and its claim is released.
func (x *example) endsCleanly() {
	x.t.Helper()
	if !await(func() bool { return len(x.claims()) == 0 }) {
		x.t.Fatalf("nobody works, and the claims are still %v", x.claims())
	}
	_, _, _, answer := x.starts(x.hosts[1])
	began := time.Now()
	if status := x.deregisters(1, ""); status != http.StatusConflict {
		x.t.Errorf("another caller deregisters the application: %d", status)
	}
	p := x.processes[1]
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		x.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(waitTimeout):
		x.t.Fatal("the application does not end")
	}
	if !p.ProcessState.Success() {
		x.t.Errorf("the application ends with %v", p.ProcessState)
	}
	if status := x.deregisters(1, ""); status != http.StatusNotFound {
		x.t.Errorf("the application has ended, and its agent deregisters it only now: %d", status)
	}
	if left := x.claims(); len(left) > 0 {
		x.t.Errorf("the application has ended, and the claims are still %v", left)
	}
	// On a slow machine the claim may be lost before the application ends.
	slow := time.Since(began) > exampleTTL/3
	if status := <-answer; status != http.StatusServiceUnavailable && !(slow && status == http.StatusConflict) {
		x.t.Errorf("the application ends, and its caller gets %d", status)
	}
}

// isDeregistered deregisters the application of the first host by force: it does not register again.
func (x *example) isDeregistered() {
	x.t.Helper()
	if status := x.deregisters(0, "?force"); status/100 != 2 {
		x.t.Errorf("deregister by force: %d", status)
	}
	output := &x.processes[0].output
	if !await(func() bool { return strings.Contains(output.String(), "deregistered by force, by ") }) {
		x.t.Fatal("the application does not say that it was deregistered by force")
	}
	if status := x.deregisters(0, ""); status != http.StatusNotFound {
		x.t.Errorf("the application has registered again: %d", status)
	}
}
