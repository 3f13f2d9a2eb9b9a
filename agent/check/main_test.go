package check

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"disc/discovery"
)

// agentEnv makes the test binary an agent that runs one exec check, whose script is the
// variable's value, for ever.
const agentEnv = "CHECK_TEST_COMMAND"

func TestMain(m *testing.M) {
	if script := os.Getenv(agentEnv); script != "" {
		newExecProber(shell(script, time.Hour)).probe(context.Background())
		return
	}
	goleak.VerifyTestMain(m)
}

// proberFunc is a prober made of a function.
type proberFunc func(ctx context.Context) result

func (f proberFunc) probe(ctx context.Context) result { return f(ctx) }

// says returns one status after the other, the last one for ever.
func says(statuses ...discovery.Status) proberFunc {
	n := -1
	return func(context.Context) result {
		n = min(n+1, len(statuses)-1)
		return result{statuses[n], "says " + string(statuses[n])}
	}
}

// hangs answers only when ctx ends.
func hangs(ctx context.Context) result {
	<-ctx.Done()
	return result{discovery.Critical, "hung"}
}

// registration has tcp checks with the given ids and one failure allowed.
func registration(ids ...string) discovery.Registration {
	r := discovery.Registration{Service: "web", ID: "web-1", Port: 80}
	for _, id := range ids {
		r.Checks = append(r.Checks, discovery.CheckSpec{ID: id, Type: discovery.CheckTCP, FailureThreshold: 1})
	}
	return r.WithDefaults("127.0.0.1", "")
}

// newScheduler returns a scheduler whose metrics are accepted.
func newScheduler(t *testing.T, o Options) *Scheduler {
	t.Helper()
	s, err := NewScheduler(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newSet returns a set whose checks are probed by the given probers, in order.
func newSet(t *testing.T, s *Scheduler, r discovery.Registration, o SetOptions, probers ...prober) *Set {
	t.Helper()
	set, err := s.NewSet(r, o)
	if err != nil {
		t.Fatal(err)
	}
	for n, p := range probers {
		set.checks[n].prober = p
	}
	return set
}

// start runs a set. stop ends it and waits for its end.
func start(t *testing.T, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	return func() { cancel(); <-done }
}

// minute is the timeout of a check that must answer.
const minute = discovery.Duration(time.Minute)

// probeOnce builds the prober of a spec for an instance at 127.0.0.1 and runs it. Without a
// timeout in the spec, it has a minute.
func probeOnce(t *testing.T, spec discovery.CheckSpec) result {
	t.Helper()
	if spec.Timeout == 0 {
		spec.Interval, spec.Timeout = minute, minute
	}
	r := discovery.Registration{Service: "web", ID: "web-1", Port: 1, Checks: []discovery.CheckSpec{spec}}
	set, err := newScheduler(t, Options{}).NewSet(r.WithDefaults("127.0.0.1", ""), SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return probeSet(t, set)
}

// probeSet runs the first check of a set once, within its timeout.
func probeSet(t *testing.T, set *Set) result {
	t.Helper()
	c := set.checks[0]
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(c.spec.Timeout))
	defer cancel()
	r := c.prober.probe(ctx)
	r.output = sanitize(r.output)
	return r
}

func shell(script string, timeout time.Duration) discovery.CheckSpec {
	return discovery.CheckSpec{Type: discovery.CheckExec, Command: []string{"/bin/sh", "-c", script}, Timeout: discovery.Duration(timeout)}
}
