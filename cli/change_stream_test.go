package cli

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

func TestListWatch(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.ok("set", "web/one", "10.0.0.1:1", "--zone", "a")
	all, zone := term.start("list", "web", "-w"), term.start("list", "web", "-w", "--filter", "weight == 1")
	for _, listing := range []*background{all, zone} {
		listing.prints("  ID   ADDRESS     STATUS   STATE  TAGS  CHANGE\n")
		listing.prints("  one  10.0.0.1:1  passing  up     -     -\n")
	}
	term.ok("set", "other/one", "10.0.0.9:1")
	term.ok("set", "web/one", "--weight", "10")
	term.ok("set", "web/one", "--weight", "11")
	term.ok("set", "web/one", "--state", "drain", "--weight", "1")
	term.ok("unset", "web/one")
	all.prints("  delete, removed\n")
	zone.prints("  delete, removed\n")
	if got := rows(all); len(got) != 5 || strings.Contains(all.out.String(), "other") {
		t.Errorf("got %d rows, want the list and all 4 changes of the service:\n%s", len(got), all.out)
	}
	if want := "  one  10.0.0.1:1  passing  up     -     weight 10 → 11\n"; !strings.Contains(all.out.String(), want) {
		t.Errorf("got\n%swant %q in it", all.out, want)
	}
	// The filter matches until the weight becomes 10, and again once it is 1.
	if got := rows(zone); len(got) != 4 {
		t.Errorf("got %d rows, want the list and 3 changes:\n%s", len(got), zone.out)
	}
	all.interrupt()
	if code := all.ends(); code != exitDone {
		t.Errorf("after an interrupt: got exit code %d", code)
	}
}

// rows returns the lines that begin with a time.
func rows(b *background) []string {
	var all []string
	for line := range strings.Lines(b.out.String()) {
		if line[0] >= '0' && line[0] <= '9' {
			all = append(all, line)
		}
	}
	return all
}

// A list that is followed has the columns of the list, and begins with its rows.
func TestListWatchShowsTheList(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	for _, line := range []string{"list", "list db", "list db -o wide", "list --zone a"} {
		t.Run(line, func(t *testing.T) {
			want := columns(term.ok(strings.Fields(line)...))
			listing := term.start(append(strings.Fields(line), "-w")...)
			retrytest.Eventually(t, "the list is there", func() bool { return len(columns(listing.out.String())) == len(want) })
			for n, row := range columns(listing.out.String()) {
				if got := row[1 : len(row)-1]; !slices.Equal(got, want[n]) {
					t.Errorf("got %q, want %q between the time and the change", got, want[n])
				}
			}
		})
	}
	services := term.start("list", "-w")
	services.prints("Cache")
	term.ok("set", "db/three", "10.0.0.3:1", "--tag", "new")
	services.prints("  db       2        3      new,primary,v14  ")
	term.ok("unset", "Cache/c:1")
	services.prints("  Cache    0        0      -                ")
	services.prints("  c:1: delete, removed\n")
}

// columns returns the cells of a table.
func columns(table string) (rows [][]string) {
	for line := range strings.Lines(table) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

func TestWatchShowsEvents(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.ok("set", "web/one", "10.0.0.1:1")
	lines, events := term.start("watch"), term.start("watch", "WEB", "-o", "jsonl")
	lines.says("watching from revision 2, with 1 instance\n")
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
	term.env["DISC_ENDPOINTS"] = "127.0.0.1:1"
	for line, want := range map[string]string{
		"list":                `web      1        1      -     \d+\n`,
		"list web -o addr":    `10\.0\.0\.1:1\n`,
		"get web/one -o name": "web/one\n",
	} {
		r := term.disc(strings.Fields(line)...)
		if r.code != exitDone || !regexp.MustCompile(want+"$").MatchString(r.out) ||
			!strings.Contains(r.stderr, "etcd at 127.0.0.1:1 cannot be reached") || !strings.Contains(r.stderr, "asking this host's agent instead") {
			t.Errorf("disc %s: got exit code %d, stdout %q, stderr %q", line, r.code, r.out, r.stderr)
		}
	}
	watching := term.start("list", "web", "-w")
	watching.prints("one  10.0.0.1:1")
	services := term.start("list", "-w")
	services.prints("web      1        1      -")
	if n := strings.Count(services.err.String(), "asking this host's agent"); n != 1 {
		t.Errorf("said %d times that the agent is asked:\n%s", n, services.err)
	}
	if got := term.ok("list", "--status", "passing", "-o", "name"); got != "web/one\n" {
		t.Errorf("got %q", got)
	}
	for _, command := range []string{"list", "get", "watch", "export"} {
		term.fails(exitNotFound, `service "wbe" is not known in namespace "default"; did you mean "web"?`, command, "wbe")
	}
	term.fails(exitFailed, "cannot be reached", "set", "web/one", "--weight", "2")
	term.fails(exitFailed, `this host's agent serves namespace "default", not "other"`, "list", "-n", "other")
	term.env["DISC_AGENT"] = "http://127.0.0.1:1"
	term.fails(exitFailed, "127.0.0.1:1: connection refused; is 'disc agent' running?", "list")
}
