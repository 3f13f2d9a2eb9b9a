package cli

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"disc/discovery/retry/retrytest"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/one", "10.0.0.1:1", "--tag", "v2", "--zone", "a")
	term.ok("set", "web/two", "10.0.0.2:1")
	term.ok("drain", "web/two")
	term.await(`"drain": 1`, "lookup", "web", "-o", "json")
	golden(t, "lookup.txt", term.ok("lookup", "web"))
	golden(t, "lookup-wide.txt", term.ok("lookup", "v2.web", "-o", "wide"))
	answered := regexp.MustCompile(`(namespace +)\d+ +\d+s +`)
	golden(t, "lookup-explain.txt", answered.ReplaceAllString(term.ok("lookup", "web", "--explain"), "${1}6         0s   "))
	// The revision depends on what the agent has written before.
	revision := regexp.MustCompile(`"revision": \d+`)
	golden(t, "lookup.json", revision.ReplaceAllString(term.ok("lookup", "one.web.inst", "-o", "json"), `"revision": 6`))
	if got := term.ok("lookup", "web", "--status", "any", "-o", "addr", "--zone", "a"); got != "10.0.0.1:1\n" {
		t.Errorf("got %q", got)
	}
	term.fails(exitNotFound, "no endpoints for web: left out 2 by tag", "lookup", "web", "--tag", "v3")
	term.fails(exitNotFound, `service "none" is not known`, "lookup", "none")
	term.fails(exitNotFound, "answers from its watch of the whole namespace, of revision ", "lookup", "wbe", "--explain")
	term.fails(exitNotFound, `service "wbe" is not known; did you mean "web"?`, "lookup", "wbe", "--explain")
	term.fails(exitNotFound, `instance "oen" of service "web" is not known; did you mean "one.web.inst"?`, "lookup", "oen.web.inst", "--explain")
	term.fails(exitUsage, "of no known form", "lookup", "a.b.c.d")
	term.fails(exitNotFound, "no endpoints for web: left out 1 draining, 1 passing", "lookup", "web", "--status", "critical")
}

func TestWait(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.await(`"synced": true`, "status", "-o", "json")
	term.timesOut(`service "web" is not known`, "wait", "web")
	one, two := term.start("wait", "web"), term.start("wait", "web", "--min", "2")
	term.ok("set", "web/one", "10.0.0.1:1")
	if code := one.ends(); code != exitDone {
		t.Errorf("got exit code %d: %s", code, one.err)
	}
	term.ok("set", "web/two", "10.0.0.2:1")
	if code := two.ends(); code != exitDone {
		t.Errorf("got exit code %d: %s", code, two.err)
	}
	term.ok("drain", "web/two")
	term.await(`"drain": 1`, "lookup", "web", "-o", "json")
	term.timesOut("web has 1 of 2 endpoints; left out 1 draining", "wait", "web", "--min", "2")
	term.ok("undrain", "web/two")
	term.await("10.0.0.2:1", "lookup", "web")
	term.timesOut("web has 2 of 3 endpoints; it has no other instances", "wait", "web", "--min", "3")
	term.watched = true
	interrupted := term.start("wait", "web", "--min", "9")
	interrupted.says("disc: waiting: web has 2 of 9 endpoints; it has no other instances")
	interrupted.interrupt()
	if code := interrupted.ends(); code != exitInterrupted {
		t.Errorf("after an interrupt: got exit code %d", code)
	}
	term.env["DISC_AGENT"] = "http://127.0.0.1:1"
	term.timesOut("connection refused", "wait", "web")
}

func TestStatus(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	command := startDisc(t, term.env["DISC_AGENT"], "run", "--service", "web", "--id", "one", "--port", port, "--check", "tcp", "--", "sleep", "1000")
	retrytest.Succeeds(t, func() error {
		r := term.disc("status")
		for _, want := range []string{"web/one   held    written  passing", "agent    n1", "session  alive", "catalog  current", "namespace default", "passing  tcp"} {
			if !strings.Contains(r.out, want) {
				return fmt.Errorf("got exit code %d and\n%s%swant %q in it", r.code, r.out, r.stderr, want)
			}
		}
		return nil
	})
	term.env["DISC_AGENT"] = strings.TrimPrefix(term.env["DISC_AGENT"], "http://")
	if got := term.ok("status", "-o", "template={{.node}} {{.namespace}}"); got != "n1 default\n" {
		t.Errorf("got %q", got)
	}
	_ = command.Process.Kill()
	term.env["DISC_AGENT"] = startAgent(t, "127.0.0.1:1", "", t.TempDir()).url
	term.fails(exitNotFound, "the agent is not ready", "status")
	term.env["DISC_AGENT"] = "unix:///nonexistent/disc.sock"
	term.fails(exitFailed, "/nonexistent/disc.sock: no such file or directory; is 'disc agent' running?", "status")
}

// completes waits until a line is completed as wanted: a completion gives up, with nothing,
// after completionTimeout.
func (term *terminal) completes(line, want string) {
	term.t.Helper()
	retrytest.Succeeds(term.t, func() error {
		out := term.ok(append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if got, _, _ := strings.Cut(out, ":"); got != want {
			return fmt.Errorf("disc %s: got %q, want %q", line, out, want)
		}
		return nil
	})
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("set", "web/one", "10.0.0.1:1")
	term.ok("set", "web/two", "10.0.0.1:2")
	for _, key := range []string{"app/greeting", "app/b/c", "apple", "top"} {
		term.ok("kv", "set", key, "1")
	}
	for line, want := range map[string]string{
		"kv get ap":         "app/\napple\n",
		"kv set app/":       "app/b/\napp/greeting\n",
		"kv del app/g":      "app/greeting\n",
		"kv watch t":        "top\n",
		"kv list ":          "app/\n",
		"kv history app/g":  "app/greeting\n",
		"kv rollback t":     "top\n",
		"kv set app/b/c hi": "",
	} {
		term.completes(line, want)
	}
	term.await("10.0.0.1:2", "lookup", "web")
	term.ok("set", "web/one", "--tag", "v2", "--tag", "eu")
	term.ok("set", "web/two", "10.0.0.1:2", "--zone", "b")
	term.await("v2,eu", "lookup", "web")
	term.await(" b ", "lookup", "web", "-o", "wide")
	check := func() {
		t.Helper()
		for line, want := range map[string]string{
			"list ":        "web\n",
			"lookup ":      "web\n",
			"watch ":       "web\n",
			"drain ":       "web/\n",
			"set web/":     "web/one\nweb/two\n",
			"get web/t":    "web/one\nweb/two\n",
			"unset x/":     "",
			"list web -o ": "table\nwide\njson\njsonl\nyaml\nname\naddr\ntemplate=\n",
			"export -o ":   "file_sd\n",
			"list web ":    "",

			"list --status ":              "passing\nwarning\ncritical\nany\n",
			"lookup web --status ":        "passing\nwarning\ncritical\nany\n",
			"set web/one --state ":        "up\ndrain\ndown\n",
			"list --zone ":                "b\n",
			"list web --tag ":             "eu\nv2\n",
			"lookup web -l ":              "eu\nv2\n",
			"list nothing --node ":        "",
			"run --service web --zone ":   "b\n",
			"lookup nothing --zone ":      "b\n",
			"set web/one 10.0.0.1:1 --zo": "--zone\tzone of a static entry\n",
		} {
			term.completes(line, want)
		}
	}
	check()
	agent, endpoints := term.env["DISC_AGENT"], term.env["DISC_ENDPOINTS"]
	term.env["DISC_AGENT"] = "http://127.0.0.1:1"
	check() // from etcd
	term.env["DISC_AGENT"], term.env["DISC_ENDPOINTS"] = agent, "127.0.0.1:1"
	check()
	term.env["DISC_ENDPOINTS"] = endpoints
	term.ok("set", "web/one", "10.0.0.1:1", "-n", "blue")
	term.completes("list -n ", "blue\ndefault\n")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := term.ok("completion", shell); !strings.Contains(out, "__complete") {
			t.Errorf("the script for %s does not complete", shell)
		}
	}
}
