package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"disc/discovery/devetcd/etcdtest"
)

const namespace = "/disc/v1/default/"

// has reports whether the terminal's etcd has a key of the namespace.
func (term *terminal) has(key string) bool {
	term.t.Helper()
	got, err := etcdtest.Client(term.t, term.env["DISC_ENDPOINTS"]).Get(term.t.Context(), namespace+key)
	if err != nil {
		term.t.Fatal(err)
	}
	return len(got.Kvs) > 0
}

// answering has the terminal ask an agent that gives these answers, by path. before is called before
// each other answer than that about the agent itself.
func (term *terminal) answering(answers map[string]string, header http.Header, before func()) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agent" {
			fmt.Fprint(w, `{"namespace":"default","catalog":{"synced":true},"settings":[],"registrations":[]}`)
			return
		}
		if before != nil {
			before()
		}
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			answer = `{"title":"no view yet","status":503}`
		}
		for name := range header {
			w.Header().Set(name, header.Get(name))
		}
		fmt.Fprint(w, answer)
	}))
	term.t.Cleanup(agent.Close)
	term.env["DISC_AGENT"] = agent.URL
}

const override = "services/old/overrides/old-1"

func TestOverridesStayUnlessTheAgentKnows(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		services string
		header   http.Header
		says     string
	}{
		"answered":  {`[{"service":"Old","total":1}]`, nil, "still answers"},
		"unwatched": {`[{"service":"old","total":0,"unwatched":true}]`, nil, "does not watch old"},
		"unknown":   {`[]`, nil, "does not watch old"},
		"stale":     {`[{"service":"old","total":0}]`, http.Header{"Disc-Stale": {"true"}}, "overrides are left alone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := atEtcd(t)
			term.put(namespace+override, `{"state":"drain"}`)
			term.answering(map[string]string{"/v1/services": test.services}, test.header, nil)
			term.fails(exitDone, test.says, "gc", "--overrides", "--yes")
			if !term.has(override) {
				t.Error("the override is gone")
			}
		})
	}
}

func TestOverridesAreRemovedIfAskedFor(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.put(namespace+override, `{"state":"drain"}`)
	term.put(namespace+"ledger/sms", `{"sold":1}`)
	term.answering(map[string]string{"/v1/services": `[{"service":"old","total":0}]`}, nil, nil)
	if out := term.ok("gc", "--yes", "-o", "name"); out != "ledger/sms\n" || !term.has(override) {
		t.Errorf("removed %q", out)
	}
	if out := term.ok("gc", "--yes", "--overrides", "-o", "name"); out != override+"\n" || term.has(override) {
		t.Errorf("removed %q", out)
	}
}

func TestAllSparedIsAConflict(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.put(namespace+override, `{"state":"drain"}`)
	term.answering(map[string]string{"/v1/services": `[{"service":"old","total":0}]`}, nil, func() { term.put(namespace+override, `{"weight":7}`) })
	term.fails(exitConflict, "it has changed meanwhile", "gc", "--overrides", "--yes")
}

// What nobody relies on does not wait for promises to end.
func TestPromisedKeysGoLast(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.put(namespace+"ledger/sms", `{"sold":1}`)
	term.put(namespace+"claims/gpu/gpu-2/0", `{"id":"2-y","node":"n2"}`)
	gc := term.start("gc", "--yes", "-o", "name")
	gc.says("waiting 1m0s")
	gc.interrupt()
	gc.prints("ledger/sms\n")
	gc.says("locks, claims and quarantines are left alone")
	if code := gc.ends(); code == exitDone || term.has("ledger/sms") || !term.has("claims/gpu/gpu-2/0") {
		t.Errorf("exit code %d", code)
	}
}

func TestForgetAndCollectRefused(t *testing.T) {
	term := newTerminal(t)
	for _, tt := range []struct {
		line string
		code int
		want string
	}{
		{"node", exitDone, ""},
		{"node forget", exitUsage, "an argument is missing"},
		{"node forget a/b", exitUsage, "node name"},
		{"gc web", exitUsage, "takes no arguments"},
		{"gc --yes", exitFailed, "etcd at"},
		{"node forget host-1", exitFailed, "etcd at"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			r := term.disc(strings.Fields(tt.line)...)
			if r.code != tt.code || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("got exit code %d, stderr:\n%swant %d and %q", r.code, r.stderr, tt.code, tt.want)
			}
		})
	}
}

// suspectsOfNode returns the answer of an agent with suspects of node n2.
func suspectsOfNode(ids ...string) map[string]string {
	list := make([]string, len(ids))
	for n, id := range ids {
		list[n] = fmt.Sprintf(`{"service":"web","id":%q,"node":"n2"}`, id)
	}
	return map[string]string{"/v1/suspects": `{"suspects":[` + strings.Join(list, ",") + `]}`}
}

// Where the suspects cannot be dropped, they are answered still, and their overrides stay.
func TestForgetKeepsOverridesOfSuspects(t *testing.T) {
	t.Parallel()
	const one, copied = "services/web/overrides/web-1", "nodes/n2/o2"
	for name, test := range map[string]struct {
		level int
		ids   []string
		code  int
		says  string
	}{
		"below the level":        {1, []string{"web-1"}, exitConflict, "feature level of the namespace is 1"},
		"the order is too large": {2, []string{"web-1", strings.Repeat("x", 3<<20)}, exitFailed, "order suspects"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := atEtcd(t)
			term.put(namespace+"level/state", fmt.Sprintf(`{"level":%d}`, test.level))
			term.put(namespace+one, `{"state":"drain"}`)
			term.put(namespace+copied, `{"node":"n2","agent":"o2"}`)
			term.answering(suspectsOfNode(test.ids...), nil, nil)
			r := term.disc("node", "forget", "n2", "--dry-run", "-o", "name")
			if below := test.level < 2; (r.code == exitConflict) != below || strings.Contains(r.out, one) == below || !strings.Contains(r.out, copied) {
				t.Errorf("the dry run ends with %d: %.200q, %.200q", r.code, r.out, r.stderr)
			}
			r = term.disc("node", "forget", "n2", "--yes", "-o", "name")
			if r.code != test.code || !strings.Contains(r.stderr, test.says) || r.out != copied+"\n" || !term.has(one) {
				t.Errorf("got exit code %d: %.200q, %.200q", r.code, r.out, r.stderr)
			}
		})
	}
}
