package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// write writes a file for a test and returns its name.
func write(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// becomes waits until a file has the content.
func becomes(t *testing.T, file, want string) {
	t.Helper()
	retrytest.Eventually(t, fmt.Sprintf("%s becomes %q", file, want), func() bool {
		got, err := os.ReadFile(file)
		return err == nil && string(got) == want
	})
}

func TestRenderOnce(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/two", "10.0.0.2:2", "--tag", "v2")
	term.ok("set", "web/one", "10.0.0.1:1", "--meta", "team=core")
	term.await("10.0.0.1:1", "lookup", "web")
	term.await("10.0.0.2:2", "lookup", "web")
	term.await("passing", "lookup", "n1.node")
	for text, want := range map[string]string{
		`{{range service "web"}}{{.ID}} {{hostport .Address .Port}} {{.Meta.team}};{{end}}`: "one 10.0.0.1:1 core;two 10.0.0.2:2 ;",
		`{{range service "v2.web"}}{{.ID}}{{end}}`:                                          "two",
		`{{range services}}{{.Name}} {{.Healthy}}/{{.Total}} {{join "," .Tags}}{{end}}`:     "web 2/2 v2",
		`{{range instances "WEB"}}{{.ID}} {{.State}};{{end}}`:                               "one up;two up;",
		`{{range nodes}}{{.Node}}{{end}}{{range service "n1.node"}} {{.Node}}{{end}}`:       "n1 n1",
		`{{range service "none"}}x{{end}}{{range instances "none"}}x{{end}}none`:            "none",
	} {
		if got := term.ok("render", write(t, "a.ctmpl", text)); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	term.fails(exitUsage, `a.ctmpl:1: function "key" not defined`, "render", write(t, "a.ctmpl", `{{key "a"}}`))
	term.fails(exitFailed, "can't evaluate field Prot", "render", write(t, "a.ctmpl", `{{range service "web"}}{{.Prot}}{{end}}`))
	term.fails(exitUsage, "a.ctmpl:1:2: executing", "render", write(t, "a.ctmpl", `{{service "web|any"}}`))
	term.fails(exitFailed, "read template", "render", "nowhere.ctmpl")
}

func TestRenderWaitsForAView(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	template := write(t, "a.ctmpl", `{{range service "web"}}{{.ID}}{{end}}`)
	term.fails(exitTimedOut, "timed out after 50ms", "render", template, "--timeout", "50ms")
	term.env["DISC_AGENT"] = startAgent(t, "127.0.0.1:1", "", t.TempDir()).url
	term.fails(exitTimedOut, "timed out after 50ms", "render", template, "--timeout", "50ms")
	waiting := term.start("render", template, "--timeout", "0")
	waiting.says("trying again")
	waiting.interrupt()
	if code := waiting.ends(); code != exitInterrupted || waiting.out.String() != "" {
		t.Errorf("got exit code %d and %q", code, waiting.out)
	}
}

func TestRenderUsage(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	a := write(t, "a.ctmpl", "a")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "give one TEMPLATE, or -w"},
		{[]string{a, "-w", a + ":b"}, "give one TEMPLATE, or -w"},
		{[]string{"-w", a}, "is not TEMPLATE:FILE[:COMMAND]"},
		{[]string{"-w", a + ":"}, "is not TEMPLATE:FILE[:COMMAND]"},
		{[]string{"-w", a + ":" + a}, "would overwrite its template"},
		{[]string{"-w", a + ":b", "-w", a + ":b:true"}, "the file b to two templates"},
		{[]string{"-w", a + ":b", "--wait", "1s"}, `--wait "1s" is not MIN:MAX`},
		{[]string{"-w", a + ":b", "--wait", "2s:1s"}, "is not MIN:MAX"},
		{[]string{a, "--timeout", "-1s"}, "--timeout must not be negative"},
	} {
		term.fails(exitUsage, tt.want, append([]string{"render"}, tt.args...)...)
	}
}

// TestRenderWatch expects that files change with instances and nodes, that a command of
// two files runs once, that a failing command delays nothing, and that the files stay when
// the agent ends.
func TestRenderWatch(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	data := t.TempDir()
	agent := startAgent(t, term.env["DISC_ENDPOINTS"], etcdtest.Address(t), data)
	term.env["DISC_AGENT"] = agent.url
	term.ok("set", "web/one", "10.0.0.1:1")
	term.await("10.0.0.1:1", "lookup", "web")
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	web, nodes := write(t, "web.ctmpl", `{{range service "web"}}{{.ID}};{{end}}`), write(t, "nodes.ctmpl", `{{range nodes}}{{.Node}};{{end}}`)
	broken := write(t, "broken.ctmpl", `{{range service "web"}}{{.Prot}}{{end}}`)
	once := "echo ran >> " + in("ran")
	following := term.start("render", "--wait", "10ms:100ms",
		"-w", web+":"+in("a")+":"+once, "-w", web+":"+in("b")+":"+once, "-w", web+":"+in("c")+":echo of no use; exit 3",
		"-w", nodes+":"+in("nodes"), "-w", broken+":"+in("broken"))
	becomes(t, in("a"), "one;")
	becomes(t, in("nodes"), "n1;")
	becomes(t, in("ran"), "ran\n")
	following.says("of no use")
	following.says(`run "echo of no use; exit 3": exit status 3`)
	following.says("broken stays as it is")
	term.ok("set", "web/two", "10.0.0.2:2")
	for _, name := range []string{"a", "b", "c"} {
		becomes(t, in(name), "one;two;")
	}
	becomes(t, in("ran"), "ran\nran\n")
	agent.stop()
	following.says("a stays as it is")
	becomes(t, in("a"), "one;two;")
	term.ok("unset", "web/one")
	again := startAgent(t, term.env["DISC_ENDPOINTS"], strings.TrimPrefix(agent.url, "http://"), data)
	becomes(t, in("a"), "two;")
	again.answers("web", 1)
	following.interrupt()
	if code := following.ends(); code != exitDone {
		t.Errorf("after an interrupt: got exit code %d", code)
	}
	becomes(t, in("ran"), "ran\nran\nran\n")
	if _, err := os.Stat(in("broken")); err == nil {
		t.Error("a failing template wrote a file")
	}
	if left, _ := filepath.Glob(in(".*")); !slices.Equal(left, []string{in(".c-pending")}) { // its command always fails
		t.Errorf("left behind: %v", left)
	}
}

func TestASlowCommandHoldsUpNoFile(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	dir := t.TempDir()
	slow, file := write(t, "slow.ctmpl", "slow"), filepath.Join(dir, "web")
	web := write(t, "web.ctmpl", `{{range service "web"}}{{.ID}};{{end}}`)
	release := filepath.Join(dir, "release")
	following := term.start("render", "--wait", "10ms:100ms",
		"-w", slow+":"+filepath.Join(dir, "slow")+":echo begins; until test -e "+release+"; do sleep 0.01; done; echo ends", "-w", web+":"+file)
	following.says("begins")
	becomes(t, file, "")
	term.ok("set", "web/one", "10.0.0.1:1")
	becomes(t, file, "one;")
	following.interrupt() // the command still completes
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := following.ends(); code != exitDone || !strings.Contains(following.err.String(), "ends") {
		t.Errorf("got exit code %d: %s", code, following.err)
	}
}

// TestRenderWatchesNodes covers an agent that joins, which changes no instance.
func TestRenderWatchesNodes(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	file := filepath.Join(t.TempDir(), "nodes")
	template := write(t, "nodes.ctmpl", `{{range nodes}}{{.Node}};{{end}}{{range service "web"}}{{.ID}}{{end}}`)
	term.start("render", "--wait", "10ms:100ms", "-w", template+":"+file)
	becomes(t, file, "n1;")
	term.ok("set", "web/one", "10.0.0.1:1")
	becomes(t, file, "n1;one")
	startAgent(t, term.env["DISC_ENDPOINTS"], "", t.TempDir())
	becomes(t, file, "n1;n1;one")
}
