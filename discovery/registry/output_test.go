package registry

import (
	"cmp"
	"testing"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// failing returns an instance with one check.
func failing(status discovery.Status, output string) discovery.Instance {
	i := instance("a")
	i.Status = status
	i.Checks = []discovery.CheckStatus{{ID: "http", Type: discovery.CheckHTTP, Status: status, Output: output}}
	return i
}

// A write that makes the status worse carries the output of the check.
func TestOutputIsWrittenWithTheStatus(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	for _, step := range []struct {
		status               discovery.Status
		output, want, writes string
	}{
		{"", "", "", "P"},
		{discovery.Critical, "no route", "no route", "PP"},
		{discovery.Critical, "no route", "no route", "PP"},
		{discovery.Passing, "", "", "PPP"},
		{discovery.Warning, "slow", "slow", "PPPP"},
		{discovery.Critical, "refused", "refused", "PPPPP"},
	} {
		a.PutStatus(failing(step.status, step.output))
		if s := a.awaitSettled("a"); s.Phase != PhaseWritten {
			t.Fatalf("state %+v", s)
		}
		got := a.record("a")
		if got.Status != cmp.Or(step.status, discovery.Critical) || got.Checks[0].Output != step.want {
			t.Errorf("%s with %q is written as %+v", step.status, step.output, got)
		}
		if story := a.history("a"); story != step.writes {
			t.Errorf("after %s with %q: history %s, want %s", step.status, step.output, story, step.writes)
		}
	}
}

// An agent that starts again says why an instance is critical until its checks have a result, and writes
// it again if they say something else then: their settings may have changed.
func TestOutputOutlivesARestart(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	first := start(t, etcd, settings{run: "first"})
	first.Put(failing(discovery.Critical, "refused"))
	first.awaitSettled("a")
	first.stop()

	second := start(t, etcd, settings{run: "second"})
	second.Put(failing("", ""))
	second.awaitSettled("a")
	for _, step := range []struct{ output, writes string }{{"refused", "PP"}, {"timeout", "PPP"}} {
		second.PutStatus(failing(discovery.Critical, step.output))
		second.awaitSettled("a")
		if got := second.record("a"); got.Run != "second" || got.Checks[0].Output != step.output {
			t.Errorf("record %+v, want %q", got, step.output)
		}
		if story := second.history("a"); story != step.writes {
			t.Errorf("after %q: history %s, want %s", step.output, story, step.writes)
		}
	}
}

// A check whose registration changed says what it says now, though its status is as before.
func TestOutputOfAChangedCheck(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	for _, output := range []string{"port 1: refused", "port 2: refused"} {
		a.Put(failing("", ""))
		a.PutStatus(failing(discovery.Critical, output))
		a.awaitSettled("a")
		if got := a.record("a").Checks[0].Output; got != output {
			t.Errorf("output %q, want %q", got, output)
		}
	}
}

// An agent that hides outputs writes none, not even that of an earlier run.
func TestHiddenOutput(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	first := start(t, etcd, settings{run: "first"})
	first.Put(failing(discovery.Critical, "refused"))
	first.awaitSettled("a")
	first.stop()

	second := start(t, etcd, settings{run: "second", hideOutput: true})
	second.Put(failing("", ""))
	second.awaitSettled("a")
	if got := second.record("a"); got.Run != "second" || got.Status != discovery.Critical || got.Checks[0].Output != "" {
		t.Errorf("record after a restart %+v", got)
	}
	second.PutStatus(failing(discovery.Critical, "refused"))
	second.awaitSettled("a")
	if story := second.history("a"); story != "PP" {
		t.Errorf("history %s", story)
	}
	second.PutStatus(failing(discovery.Warning, "slow"))
	second.awaitSettled("a")
	if got := second.record("a"); got.Status != discovery.Warning || got.Checks[0].Output != "" {
		t.Errorf("record %+v", got)
	}
}
