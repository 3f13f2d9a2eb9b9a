package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/view"
)

// An explanation with all of its parts, and hostile texts.
func TestWhyShown(t *testing.T) {
	t.Parallel()
	const bad = "\x1b[31m\n"
	weight, heard := 3, discovery.Duration(2*time.Second)
	w := api.Why{
		Service: "web", ID: "web-1", State: api.WhyLeftOut, Reason: "its status is critical" + bad, Next: []string{"Look" + bad},
		Instance: &view.Entry{
			Instance: discovery.Instance{Service: "web", ID: "web-1", Address: "10.0.0.1", Port: 80, Zone: "a" + bad, Tags: discovery.Tags{"v" + bad}, Status: discovery.Critical,
				Checks: []discovery.CheckStatus{{ID: "up", Name: "up" + bad, Type: discovery.CheckTTL, Status: discovery.Critical, Output: "no" + bad}}},
			State: discovery.Up, Override: &discovery.Override{Weight: &weight, Meta: discovery.Meta{"k": "v" + bad}}, Source: view.SourceAgent, Suspect: true,
			Shadowed: &discovery.Instance{Address: "10.0.0.2", Port: 81, Status: discovery.Passing},
		},
		Missing: true, Order: &discovery.SuspectOrder{Order: discovery.KeepSuspect, By: "somebody" + bad},
		Owner:        &api.WhyOwner{Agent: "o" + bad, Node: "n" + bad, Session: api.WhySessionEnded},
		Registration: &api.Registration{Source: api.FromHold, State: api.RegistrationConflict, Error: "taken" + bad},
		Etcd:         &api.WhyEtcd{Override: 7, Heard: &heard, TTL: discovery.Duration(15 * time.Second)},
		Changes:      []discovery.Change{{Revision: 5, Service: "web", ID: "web-1", Change: discovery.ChangeAdded, Why: "its agent" + bad}},
	}
	term := newTerminal(t)
	path := "/v1/services/web/instances/web-1/why"
	term.answering(map[string]string{path: string(etcdtest.Must(json.Marshal(w)))}, nil, nil)
	r := term.disc("why", "web/web-1")
	if r.code != exitDone || strings.Contains(r.out+r.stderr, "\x1b") {
		t.Fatalf("exit code %d: %q, %q", r.code, r.out, r.stderr)
	}
	for _, want := range []string{
		"web/web-1 is not answered: its status is critical\ufffd[31m\ufffd\n",
		"check     up\ufffd[31m\ufffd (ttl) is critical: no\ufffd[31m\ufffd\n",
		"override  weight 3, meta k=v\ufffd[31m\ufffd, revision 7\n",
		"static    its record hides the static entry at 10.0.0.2:81, which is passing\n",
		"guard     a suspect: ", "; ordered to keep by somebody\ufffd",
		", whose session has ended; etcd heard of it 2s ago, and waits for 15s\n",
		"here      registered through this agent (held), conflict: taken\ufffd",
		"etcd      has the override of revision 7\n",
		"what to do:\n  - Look\ufffd[31m\ufffd\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("printed\n%s\nwant %q", r.out, want)
		}
	}
	term.answering(map[string]string{path: `{"service":"web","id":"web-1","state":"gone","reason":"it left","next":[],"changes":[],"etcd":{"error":"no route"}}`}, nil, nil)
	if out := term.ok("why", "web/web-1"); out != "web/web-1 is gone: it left\n  etcd  could not be asked: no route\n" {
		t.Errorf("printed %q", out)
	}
	// What etcd has is shown where only its lease is not known.
	term.answering(map[string]string{path: `{"service":"web","id":"web-1","state":"gone","reason":"it left","next":[],"changes":[],"etcd":{"record":5,"unreadable":"record: junk","key":"/k","lease":"7f","error":"no route"}}`}, nil, nil)
	if out := term.ok("why", "web/web-1"); out != "web/web-1 is gone: it left\n  unreadable  /k: record: junk\n  etcd        has the record of revision 5; it could not be asked for the lease: no route\n" {
		t.Errorf("printed %q", out)
	}
}
