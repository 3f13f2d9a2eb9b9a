package httpapi

import (
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// An agent that misses renewals is named before its lease ends, and again when it has ended.
func TestNextStepsForAnOwner(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		heard   time.Duration
		session api.WhySession
		suspect bool
		want    string // ""; nothing is to be done about it
	}{
		{heard: 6 * time.Second, session: api.WhySessionAlive},
		{heard: 12 * time.Second, session: api.WhySessionAlive, want: "Its agent on host-2 has not been heard of for 12s"},
		{heard: 12 * time.Second, session: api.WhySessionEnded, want: "Its agent on host-2 is not heard of"},
		{heard: 12 * time.Second, session: api.WhySessionEnded, suspect: true, want: "Its agent on host-2 is not heard of"},
	} {
		heard := discovery.Duration(test.heard)
		steps := strings.Join(nextSteps(&api.Why{
			Service: "web", ID: "web-1", State: api.WhyAnswered,
			Instance: &view.Entry{Instance: discovery.Instance{Service: "web", ID: "web-1", Status: discovery.Passing, Weight: 1}, State: discovery.Up, Suspect: test.suspect},
			Owner:    &api.WhyOwner{Node: "host-2", Session: test.session},
			Etcd:     &api.WhyEtcd{Heard: &heard, TTL: discovery.Duration(15 * time.Second)},
		}), "\n")
		if test.want == "" && steps != "" || !strings.Contains(steps, test.want) {
			t.Errorf("%+v: %q", test, steps)
		}
	}
}
