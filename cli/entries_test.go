package cli

import (
	"fmt"
	"strings"
	"testing"

	"disc/discovery"
)

// populate creates the same entries in each run. That of db/replica is by another program, whose
// meta steers terminals.
func populate(term *terminal) {
	term.ok("set", "db/primary", "10.0.0.5:5432", "--tag", "primary", "--tag", "v14", "--meta", "Team=core", "--zone", "a")
	term.put(discovery.NewKeys("default").Static("db", "replica"),
		`{"service":"db","id":"replica","address":"2001:DB8::1","port":5432,"weight":0,"meta":{"note":"a\u001b[31mb\u202ec\u009bd"}}`)
	term.ok("set", "db/replica", "--state", "drain", "--weight", "7")
	term.ok("set", "Cache/c:1", "cache.internal:6379")
}

func TestEntriesInEveryForm(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	for name, args := range map[string][]string{
		"services.txt":  {"list"},
		"services.json": {"list", "-o", "json"},
		"services.yaml": {"list", "-o", "yaml"},
		"list.txt":      {"list", "db"},
		"list-wide.txt": {"list", "DB", "-o", "wide"},
		"list.jsonl":    {"list", "db", "-o", "jsonl"},
		"list-name.txt": {"list", "db", "-o", "name"},
		"list-addr.txt": {"list", "db", "-o", "addr"},
		"get.json":      {"get", "db/replica", "-o", "json"},
		"get.yaml":      {"get", "db/replica"},
		"get-all.yaml":  {"get", "db"},
		"template.txt":  {"list", "db", "-o", `template={{.id}} {{.weight}} {{.meta}}`},
		"all.txt":       {"list", "-A"},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, term.ok(args...)) })
	}
	term.color = true
	if got := term.ok("list", "db"); !strings.Contains(got, green+"passing"+reset) || strings.Contains(term.ok("list", "db", "--no-color"), green) {
		t.Errorf("got\n%q", got)
	}
	for _, form := range []string{"json", "jsonl", "yaml", "table", "wide", "name", "addr", "template={{.meta}}"} {
		t.Run("controls in "+form, func(t *testing.T) {
			got := strings.ReplaceAll(term.ok("list", "db", "-o", form, "--no-color"), "\n", "")
			if strings.ContainsFunc(got, discovery.IsControl) {
				t.Errorf("got control characters, or colours: %q", got)
			}
		})
	}
}

func TestListSelects(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-l", "V14"}, "db/primary\n"},
		{[]string{"--tag", "v14,other"}, ""},
		{[]string{"--zone", "a"}, "db/primary\n"},
		{[]string{"--meta", "Team=core"}, "db/primary\n"},
		{[]string{"--filter", `weight == 7 or "none" in tags`}, "db/replica\n"},
		{[]string{"--filter", `state == "drain"`}, "db/replica\n"},
		{[]string{"--status", "passing"}, "db/primary\ndb/replica\n"},
		{[]string{"--status", "critical"}, ""},
		{[]string{"--node", "n1"}, ""},
	} {
		if got := term.ok(append([]string{"list", "db", "-o", "name"}, tt.args...)...); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestNothingThere(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	for _, tt := range []struct{ line, out, stderr string }{
		{"list", "", `no services in namespace "default"`},
		{"list -o json", "[]\n", ""},
		{"list --status critical", "", `no such instances in namespace "default"`},
		{"list --zone a -o json", "[]\n", ""},
		{"list -A", "", "no services in any namespace"},
	} {
		r := term.disc(strings.Fields(tt.line)...)
		if r.code != exitDone || r.out != tt.out || !strings.Contains(r.stderr, tt.stderr) {
			t.Errorf("disc %s: got exit code %d, stdout %q, stderr %q", tt.line, r.code, r.out, r.stderr)
		}
	}
	term.fails(exitNotFound, "there is no instance none/x", "set", "none/x", "--weight", "1")
	term.fails(exitNotFound, "there is no instance none/x", "drain", "none/x")
	term.fails(exitNotFound, "nothing of the kind to remove", "unset", "none/x")
	term.fails(exitUsage, "has no address", "list", "-o", "addr")
}

// A service of which nothing is known ends every command that reads it alike, and names the
// nearest.
func TestUnknownService(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/one", "10.0.0.1:1")
	term.ok("set", "webapp/one", "10.0.0.1:1")
	term.ok("set", "billing/one", "10.0.0.1:1")
	for _, service := range []string{"web", "webapp", "billing"} {
		term.await("10.0.0.1:1", "lookup", service)
	}
	for _, command := range []string{"list", "list -w", "list -w -o jsonl", "list --status critical", "get", "lookup", "watch", "watch -o jsonl", "watch --exec false", "export", "export web"} {
		for name, hint := range map[string]string{"wbe": `did you mean "web"?`, "we": `did you mean "web" or "webapp"?`, "biling": `did you mean "billing"?`, "none": "see 'disc list'"} {
			t.Run(command+" "+name, func(t *testing.T) {
				r := term.disc(append(strings.Fields(command), name)...)
				namespace := ` in namespace "default"`
				if command == "lookup" { // in that of the agent
					namespace = ""
				}
				if want := fmt.Sprintf("disc: service %q is not known%s; %s\n", name, namespace, hint); r.code != exitNotFound || r.stderr != want || r.out != "" {
					t.Errorf("got exit code %d, stdout %q, stderr %q; want 3 and %q", r.code, r.out, r.stderr, want)
				}
			})
		}
	}
	term.fails(exitNotFound, `instance "oen" of service "web" is not known; did you mean "one"?`, "get", "web/oen")
	term.fails(exitNotFound, `instance "x" of service "web" is not known; see 'disc list web'`, "get", "web/x")
}

// A service whose instances are gone is not listed, and explained to who asks for it.
func TestServiceWithoutInstances(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	term.ok("unset", "db/replica", "--static")
	term.ok("unset", "db/primary")
	if got := term.ok("list", "-o", "name"); got != "Cache\n" {
		t.Errorf("got %q", got)
	}
	for _, command := range []string{"list", "get"} {
		if r := term.disc(command, "db"); r.code != exitDone || !strings.Contains(r.stderr, `service "db" has no instances now: `) {
			t.Errorf("disc %s db: got exit code %d, stderr %q", command, r.code, r.stderr)
		}
	}
}

// What selects instances works across all services.
func TestListOfAllServices(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	for _, tt := range []struct{ args, want string }{
		{"-l v14", "db/primary\n"},
		{"--zone a", "db/primary\n"},
		{"--filter weight!=1", "db/replica\n"},
		{"--status passing", "Cache/c:1\ndb/primary\ndb/replica\n"},
		{"--status any --meta Team=core", "db/primary\n"},
		{"--node n1", ""},
	} {
		if got := term.ok(append([]string{"list", "-o", "name"}, strings.Fields(tt.args)...)...); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.args, got, tt.want)
		}
	}
	if got := term.ok("list", "--zone", "a"); !strings.HasPrefix(got, "INSTANCE    ADDRESS") || !strings.Contains(got, "\ndb/primary  10.0.0.5:5432  passing") {
		t.Errorf("got\n%s", got)
	}
}

// TestEdits runs a session of edits, each on the result of the one before.
func TestEdits(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	for _, step := range []struct {
		line, want string // without the revision
	}{
		{"set db/one 10.0.0.1:1 --dry-run", "db/one: made, at 10.0.0.1:1 (dry run)\n"},
		{"list -o name", ""},
		{"set db/one 10.0.0.1:1 --weight 3 --if-revision 0", "db/one: made, at 10.0.0.1:1\n"},
		{"set db/one 10.0.0.1:1", "db/one: unchanged\n"},
		{"set db/one 10.0.0.2:1 --tag a --tag b,c", "db/one: address 10.0.0.1:1 → 10.0.0.2:1, tags - → a,b,c\n"},
		{"set db/one 10.0.0.2:1 --zone z --meta k=v --meta K=", "db/one: meta - → K=,k=v, zone - → z\n"},
		{"set db/one --weight 9", "db/one: weight 3 → 9\n"},
		{"set db/one --tag= --meta k-", "db/one: tags a,b,c → -\n"},
		{"set db/one --state down --weight 9", "db/one: state up → down\n"},
		{"drain db/one", "db/one: state down → drain\n"},
		{"undrain db/one", "db/one: state drain → up\n"},
		{"unset db/one --override", "db/one: tags - → a,b,c, weight 9 → 3\n"},
		{"unset db/one --static --dry-run", "db/one: removed (dry run)\n"},
		{"unset db/one", "db/one: removed\n"},
		{"set db/two 10.0.0.2:2 --state drain", "db/two: made, at 10.0.0.2:2, state drain\n"},
		{"set db/two 10.0.0.2:2 --state up --dry-run", "db/two: state drain → up (dry run)\n"},
		{"set db/two 10.0.0.2:2 --state up", "db/two: state drain → up\n"},
		{"set db/two [2001:db8::2]:5", "db/two: address 10.0.0.2:2 → [2001:db8::2]:5\n"},
		{"set db/two host.example -o name", "db/two\n"},
		{"unset db/two --if-revision 1", "exit 5"},
		{"unset db/two --override", "exit 3"},
	} {
		r := term.disc(strings.Fields(step.line)...)
		got := withoutRevision(r.out)
		if want, ok := strings.CutPrefix(step.want, "exit "); ok {
			got, step.want = string(rune('0'+r.code)), want
		} else if r.code != exitDone {
			t.Errorf("disc %s: exit code %d: %s", step.line, r.code, r.stderr)
		}
		if got != step.want {
			t.Errorf("disc %s: got %q, want %q", step.line, got, step.want)
		}
	}
}

// withoutRevision removes " (revision 42)" from a line.
func withoutRevision(line string) string {
	before, after, ok := strings.Cut(line, " (revision ")
	if !ok {
		return line
	}
	_, rest, _ := strings.Cut(after, ")")
	return before + rest
}

func TestSetFromFile(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.stdin = "{service: DB, id: one, address: 10.0.0.1, port: 1, weight: 4, tags: [a], meta: {Team: core}}"
	if got := withoutRevision(term.ok("set", "db/one", "-f", "-", "--weight", "5")); got != "db/one: made, at 10.0.0.1:1\n" {
		t.Errorf("got %q", got)
	}
	if got := term.ok("get", "db/one", "-o", "template={{.weight}} {{.meta.Team}}"); got != "5 core\n" {
		t.Errorf("got %q", got)
	}
	for text, why := range map[string]string{
		"{service: web, address: 10.0.0.1, port: 1}":          "- is about web/, not db/two",
		"{id: three, address: 10.0.0.1, port: 1}":             "- is about /three, not db/two",
		"{adress: 10.0.0.1}":                                  "field adress not found",
		"{port: 1}":                                           "address is empty",
		"{address: 10.0.0.1, port: 1, checks: [{type: tcp}]}": "remove checks and deregister_after",
		"{address: 10.0.0.1, port: 1, deregister_after: 1h}":  "remove checks and deregister_after",
		"{address: 10.0.0.1, port: 1, weight: heavy}":         "cannot unmarshal",
		"": "-: EOF",
	} {
		term.stdin = text
		term.fails(exitUsage, why, "set", "db/two", "-f", "-")
	}
	term.fails(exitFailed, "no such file", "set", "db/two", "-f", "/nonexistent/entry.yaml")
}

func TestSetWarnsOfDots(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	if r := term.disc("set", "db.main/one", "10.0.0.1:1"); r.code != exitDone || !strings.Contains(r.stderr, "DNS cannot look it up") {
		t.Errorf("got exit code %d, stderr %q", r.code, r.stderr)
	}
}

func TestBrokenRecordIsNamed(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	term.put(discovery.NewKeys("default").Static("db", "broken"), "{")
	r := term.disc("list", "db", "-o", "name")
	if r.code != exitDone || r.out != "db/primary\ndb/replica\n" || !strings.Contains(r.stderr, "static entry db/broken") {
		t.Errorf("got exit code %d, stdout %q, stderr %q", r.code, r.out, r.stderr)
	}
}

// An edit refuses what may not be written, and leaves what an earlier version wrote beside it.
func TestEditsOfOddEntries(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	populate(term)
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"set", "db/replica", "--meta", "note=a\nb"}, `meta "note" has the character U+000A`},
		{[]string{"set", "db/x", "10.0.0.1:1", "--meta", "note=\u2028"}, `meta "note" has the character U+2028`},
		{[]string{"set", "db/x", "10.0.0.1:1", "--zone", "\u202e"}, "zone has the character U+202E"},
		{[]string{"set", "db/x", "0x7f000001:1"}, "ends in a number"},
		{[]string{"set", "db/x", "127.1:1"}, "neither an IP address nor a host name"},
		{[]string{"set", "db/x", "224.0.0.1:1"}, "multicast"},
		{[]string{"set", "db/x", "255.255.255.255:1"}, "broadcast"},
		{[]string{"set", "db/x", "[::ffff:0.0.0.0]:1"}, "0.0.0.0"},
	} {
		t.Run(strings.Join(tt.args[1:], " "), func(t *testing.T) { term.fails(exitUsage, tt.says, tt.args...) })
	}
	term.ok("drain", "db/replica")
	term.put(discovery.NewKeys("default").Override("db", "primary"), `{"meta":{"note":"a\nb"}}`)
	term.ok("drain", "db/primary")
	if got := term.ok("set", "db/replica", "[::ffff:10.0.0.7]:1"); !strings.Contains(got, "→ 10.0.0.7:1") {
		t.Errorf("got %q", got)
	}
}
