package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func TestListWatch(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.ok("set", "web/one", "10.0.0.1:1", "--zone", "a")
	all, zone := term.start("list", "web", "-w"), term.start("list", "web", "-w", "--filter", "weight == 1")
	all.prints("web/one   10.0.0.1:1  passing  up     -\n")
	zone.prints("web/one   10.0.0.1:1  passing  up     -\n")
	term.ok("set", "other/one", "10.0.0.9:1")
	term.ok("set", "web/one", "--weight", "10")
	term.ok("set", "web/one", "--weight", "11")
	term.ok("set", "web/one", "--state", "drain", "--weight", "1")
	term.ok("unset", "web/one")
	all.prints("delete  web/one  removed\n")
	zone.prints("delete  web/one  removed\n")
	if got := changes(all); len(got) != 4 || strings.Contains(all.out.String(), "other") {
		t.Errorf("got %d changes, want all 4 of the service:\n%s", len(got), all.out)
	}
	if want := "put     web/one  10.0.0.1:1  passing  weight 10 → 11\n"; !strings.Contains(all.out.String(), want) {
		t.Errorf("got\n%swant %q in it", all.out, want)
	}
	// The filter matches until the weight becomes 10, and again once it is 1.
	if got := changes(zone); len(got) != 3 {
		t.Errorf("got %d changes, want 3:\n%s", len(got), zone.out)
	}
	all.interrupt()
	if code := all.ends(); code != exitDone {
		t.Errorf("after an interrupt: got exit code %d", code)
	}
}

// changes returns the lines that begin with a revision.
func changes(b *background) []string {
	var all []string
	for line := range strings.Lines(b.out.String()) {
		if line[0] >= '0' && line[0] <= '9' {
			all = append(all, line)
		}
	}
	return all
}

func TestWatchShowsEvents(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.ok("set", "web/one", "10.0.0.1:1")
	lines, events := term.start("watch"), term.start("watch", "WEB", "-o", "jsonl")
	lines.says("watching from revision 2; 1 instances exist")
	events.prints(`"event":"reset"`)
	term.ok("set", "db/one", "10.0.0.2:1")
	term.ok("drain", "web/one")
	term.ok("unset", "web/one", "--static")
	lines.prints("3  put     db/one  10.0.0.2:1  passing\n4  put     web/one  10.0.0.1:1  passing  drain  state up → drain\n5  delete  web/one  removed\n")
	events.prints(`"event":"delete"`)
	var got []string
	for line := range strings.Lines(events.out.String()) {
		var e struct {
			Type string `json:"event"`
			api.Event
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Type+" "+e.ID+" "+string(e.Reason))
		if e.Type == string(view.EventPut) && e.Instance.State != discovery.Drain {
			t.Errorf("got %s", line)
		}
	}
	if want := "reset  ,put one ,delete one removed"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", strings.Join(got, ","), want)
	}
}

func TestReadersFallBackToTheAgent(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/one", "10.0.0.1:1")
	term.await("10.0.0.1:1", "lookup", "web")
	revision := strings.TrimSpace(term.ok("list", "-o", "template={{.revision}}"))
	term.env["DISC_ENDPOINTS"] = "127.0.0.1:1"
	for line, want := range map[string]string{
		"list":                "web      1        1      -     " + revision + "\n",
		"list web -o addr":    "10.0.0.1:1\n",
		"list none":           "",
		"get web/one -o name": "web/one\n",
	} {
		r := term.disc(strings.Fields(line)...)
		if r.code != exitDone || !strings.HasSuffix(r.out, want) ||
			!strings.Contains(r.stderr, "etcd at 127.0.0.1:1 cannot be reached") || !strings.Contains(r.stderr, "asking this host's agent instead") {
			t.Errorf("disc %s: got exit code %d, stdout %q, stderr %q", line, r.code, r.out, r.stderr)
		}
	}
	watching := term.start("list", "web", "-w")
	watching.prints("web/one")
	term.fails(exitNotFound, "not known", "get", "none")
	term.fails(exitFailed, "cannot be reached", "set", "web/one", "--weight", "2")
	term.fails(exitFailed, `this host's agent serves namespace "default", not "other"`, "list", "-n", "other")
	term.env["DISC_AGENT"] = "http://127.0.0.1:1"
	term.fails(exitFailed, "127.0.0.1:1: connection refused; is 'disc agent' running?", "list")
}
