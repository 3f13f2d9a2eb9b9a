package browser_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// card selects what the page shows of a form.
func card(form string) string { return fmt.Sprintf("section[aria-labelledby=form-%s]", form) }

// One name is asked in all forms, and each answer is that of the agent. It is renewed when the service changes.
func TestTry(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect("status of 404")
	b.open(a.url("?view=try"))
	b.sees("main", "Give the name of a service")
	b.replace("input[name=name]", "web")
	b.replace("input[name=tag]", "v2")
	b.click("button", "Ask")
	for _, want := range []struct{ form, text string }{
		{"json", `GET /v1/lookup/web?tag=v2`},
		{"json", `● 200 OK in`},
		{"json", `Disc-Revision: `},
		{"json", `"endpoints":[{"id":"web-1"`},
		{"text", `10.0.0.1:8080`},
		{"dns-a", `;; status: NOERROR`},
		{"dns-a", `v2.web.disc. 1 IN A 10.0.0.1`},
		{"dns-a", `The DNS server of this agent is off`},
		{"dns-aaaa", `AUTHORITY: 1`},
		{"dns-aaaa", `disc. 1 IN SOA `},
		{"dns-srv", `IN SRV 0 65535 8080 web-1.web.inst.disc.`},
		{"dns-srv", `web-1.web.inst.disc. 1 IN A 10.0.0.1`},
		{"http-sd", `"targets":["10.0.0.1:8080"]`},
		{"eds", `POST /v3/discovery:endpoints {"resource_names":["v2.web"]}`},
		{"eds", `"cluster_name":"v2.web"`},
		{"eds", `The stream of EDS is off`},
	} {
		b.sees(card(want.form), want.text)
	}
	b.sees("main", "Answered in 7 of 7 forms.")
	b.focused("Ask")
	if at := evaluate[string](b, "location.href"); at != a.url("?view=try&name=web&tag=v2") {
		t.Errorf("the address is %s", at)
	}

	b.click(card("dns-a")+" summary", "The bytes")
	b.sees(card("dns-a")+" details", "00 01 02 76 32 03 .............v2.")

	// What is typed stays.
	b.keys("/", "we")
	a.register("web", "web-2")
	b.sees(card("json"), "web-2")
	b.sees(card("dns-srv"), "web-2.web.inst.disc.")
	if typed := evaluate[string](b, "document.activeElement.name + '=' + document.activeElement.value"); typed != "name=we" {
		t.Errorf("what is typed has become %q", typed)
	}

	b.open(a.url("?view=try&name=nothing"))
	b.sees(card("json"), `✕ 404 Not Found in`)
	b.sees(card("json"), `service \"nothing\" is not known`)
	b.sees(card("dns-a"), `status: NXDOMAIN`)
	a.register("nothing", "nothing-1")
	b.sees(card("json"), `nothing-1`)
	b.open(a.url("?view=try&name=.."))
	b.sees("main", "A name has more than dots.")

	b.open(a.url("?service=web"))
	b.click("a", "Try it in all forms")
	b.sees(card("text"), "10.0.0.1:8080")
}

// Each command asks what the page asked, and nothing in a name or an address of the page runs in a shell.
func TestTryCommands(t *testing.T) {
	for _, program := range []string{"curl", "dig", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	t.Setenv("DISC_DNS", etcdtest.Address(t))
	t.Setenv("DISC_GRPC", etcdtest.Address(t))
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	dir := t.TempDir()
	self, err := os.Executable()
	b := openTab(t)
	b.must(err)
	b.must(os.Symlink(self, filepath.Join(dir, program)))
	b.expect("status of 40[04]")
	run := func(command string) string {
		c := exec.CommandContext(t.Context(), "bash", "-c", command)
		c.Dir, c.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		output, err := c.CombinedOutput()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		return string(output)
	}

	b.open(a.url("?view=try&name=web&zone=a&pick=1"))
	b.sees("main", "Answered in 7 of 7 forms.")
	b.sees(card("dns-a"), "DNS has no zone and no pick.")
	b.seesNot("main", "is off")
	for _, want := range []struct {
		form string
		n    int
		text string
	}{
		{"json", 0, `"endpoints":[{"id":"web-1"`}, {"json", 1, `"id": "web-1"`}, {"text", 0, "\n10.0.0.1:8080\n"}, {"text", 1, "10.0.0.1:8080\n"},
		{"dns-a", 0, "IN\tA\t10.0.0.1"}, {"dns-aaaa", 0, "status: NOERROR"}, {"dns-srv", 0, "IN\tSRV\t0 65535 8080 web-1.web.inst.disc."},
		{"http-sd", 0, `"targets":["10.0.0.1:8080"]`}, {"eds", 0, `"cluster_name":"web"`},
	} {
		command := b.command(want.form, want.n)
		retrytest.Succeeds(t, func() error { // dig gives up after a while
			if got := run(command); !strings.Contains(got, want.text) {
				return fmt.Errorf("%s lacks %q:\n%s", command, want.text, got)
			}
			return nil
		})
	}

	const hostile = "'; touch it; $(touch it) `touch it` \" \\ & | > it\n\x1b[201~\x03touch it\r <img src=x onerror=alert(1)> {a,b} [1-3]"
	q := url.Values{"view": {"try"}, "name": {hostile}, "tag": {hostile}, "zone": {hostile}}
	b.open(a.url("?" + q.Encode()))
	b.sees(card("json"), "400 Bad Request")
	b.sees(card("json"), "<img src=x onerror=alert(1)>") // text
	b.sees("main", "Answered in 4 of 7 forms.")
	if n := evaluate[int](b, "document.querySelectorAll('main img').length"); n != 0 {
		t.Error("a name has become markup")
	}
	for _, form := range []string{"json", "text", "http-sd", "eds"} {
		for n := range evaluate[int](b, fmt.Sprintf("document.querySelectorAll(%s).length", quote(card(form)+" code"))) {
			command := b.command(form, n)
			if strings.ContainsFunc(command, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q has a character that acts on a terminal", command)
			}
			if got := run(command); strings.Contains(got, "not found\n") || strings.Contains(got, "bash:") {
				t.Errorf("%s: %s", command, got)
			}
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the commands have made files: %v, %v", files, err)
	}
}

// Who sees no settings is shown the names of the agent's domain all the same, and nothing is said to be off.
func TestTryWithoutScope(t *testing.T) {
	t.Setenv("DISC_DNS_DOMAIN", "corp.")
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), withTokens())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url("?view=try&name=web"))
	b.sees(card("dns-a"), "web.corp. 1 IN A 10.0.0.1")
	b.sees("main", "Answered in 7 of 7 forms.")
	b.seesNot("main", "is off")
	if command := b.command("json", 0); strings.Contains(command, "Authorization") {
		t.Errorf("%s has a token, and the page has none", command)
	}
	b.click("button", "Token")
	b.replace("dialog input[name=token]", opsToken)
	b.click("dialog button", "Use the token")
	b.sees(card("json"), `curl -i -H "Authorization: Bearer $DISC_TOKEN"`)
	b.sees(card("dns-a"), "is off")
	b.seesNot("main", opsToken)
}

// command returns a command that the page shows for a form.
func (b *tab) command(form string, n int) string {
	b.t.Helper()
	return evaluate[string](b, fmt.Sprintf("document.querySelectorAll(%s)[%d].textContent", quote(card(form)+" code"), n))
}

// A command is copied by its button, also with the keyboard.
func TestTryCopies(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url("?view=try&name=web"))
	b.sees(card("text"), "10.0.0.1:8080")
	evaluate[chromedp.Void](b, `(() => {
		const real = setTimeout
		window.setTimeout = (f, ms, ...more) => real(f, ms === 2000 ? 1e9 : ms, ...more) // what is said of it stays
		navigator.clipboard.writeText = async (text) => { window.copied = text }
	})()`)
	b.tabTo("Copy " + b.command("text", 1))
	b.keys(kb.Enter)
	b.sees(card("text")+" p:has(code) + p [role=status]", "Copied")
	if got, want := evaluate[string](b, "window.copied"), b.command("text", 1); got != want {
		t.Errorf("copied %q, want %q", got, want)
	}

	// Where a browser lets no script copy, the command is selected.
	evaluate[chromedp.Void](b, "navigator.clipboard.writeText = async () => { throw new Error('not allowed') }")
	b.click(card("json")+" button", "Copy curl")
	b.sees(card("json")+" [role=status]", "Selected")
	if got, want := evaluate[string](b, "getSelection().toString()"), b.command("json", 0); got != want {
		t.Errorf("selected %q, want %q", got, want)
	}
}

// proxyTo starts a proxy to an agent, and returns its address. The proxy leaves alone what instead answers.
func proxyTo(t *testing.T, a *agent, instead func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: a.address})
		r.Out.Host = r.In.Host
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !instead(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Whatever answers in the agent's place is shown as text, within bounds: a message of DNS that is none, a
// body without an end.
func TestTryHostileAnswers(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	var hostile atomic.Bool
	var refused atomic.Int32
	at := proxyTo(t, a, func(w http.ResponseWriter, r *http.Request) bool {
		switch path := r.URL.Path; {
		case hostile.Load() && path == "/dns-query":
			_, _ = io.WriteString(w, "\x00\x00\x85\x80\xff\xff\xff\xff\xff\xff\xff\xff\xc0\x0c")
		case hostile.Load() && path == "/v1/sd/prometheus":
			for r.Context().Err() == nil { // until the page has enough
				_, _ = io.WriteString(w, strings.Repeat("<script>alert(1)</script>\u202e", 100))
			}
		case path == "/v3/discovery:endpoints" && refused.Add(1) <= 2:
			http.Error(w, "no view yet", http.StatusServiceUnavailable)
		default:
			return false
		}
		return true
	})
	b := openTab(t)
	b.expect("status of 503")
	b.open(at + "/?view=try&name=web")
	b.sees(card("http-sd"), `"targets":["10.0.0.1:8080"]`)
	b.sees(card("eds"), `"cluster_name":"web"`) // it is asked again
	hostile.Store(true)
	b.click("button", "Ask")
	b.sees(card("dns-a"), "The answer is no DNS message: the name before byte 14 has no end.")
	b.sees(card("http-sd"), "the first 65,536 bytes")
	b.sees(card("http-sd"), `<script>alert(1)</script>\u202e`)
	b.sees(card("eds"), `"cluster_name":"web"`)
}

// An agent that is away leaves what was answered, and is asked again when it is back.
func TestTryWithoutAgent(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect("net::ERR_|status of 503")
	b.open(a.url("?view=try&name=web"))
	b.sees("main", "Answered in 7 of 7 forms.")
	a.stop()
	b.sees(banners, "the page tries again")
	b.click("button", "Ask")
	b.sees(card("json"), "does not answer. Below is the answer of")
	b.sees(card("json"), `"id":"web-1"`)
	b.sees(card("eds"), "does not answer. Below is the answer of") // a POST that changes nothing
	a.start()
	b.sees(freshness, "live")
	a.register("web", "web-2")
	b.sees(card("json"), `web-2`)
}

// What was answered stays while the stream of changes is opened anew, as for a reader who comes back.
func TestTryStaysWhileConnecting(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url("?view=try&name=web"))
	b.sees("main", "Answered in 7 of 7 forms.")
	evaluate[chromedp.Void](b, "dispatchEvent(new PageTransitionEvent('pagehide')), undefined")
	b.sees(freshness, "connecting")
	b.sees(card("json"), `"id":"web-1"`)
	a.register("web", "web-2")
	evaluate[chromedp.Void](b, "dispatchEvent(new PageTransitionEvent('pageshow')), undefined")
	b.sees(card("json"), `"id":"web-2"`)
}

// A form that fails again and again does not keep the others from what has changed.
func TestTryChangesWhileAFormFails(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	at := proxyTo(t, a, func(w http.ResponseWriter, r *http.Request) bool {
		fails := r.URL.Path == "/v3/discovery:endpoints"
		if fails {
			http.Error(w, "no view yet", http.StatusServiceUnavailable)
		}
		return fails
	})
	b := openTab(t)
	b.expect("status of 503")
	b.before(`{
		const real = setTimeout
		window.setTimeout = (f, ms, ...more) => {
			window.waits ||= [4000, 8000, 16_000].includes(ms) // for the form, and does not end by itself
			return real(f, [4000, 8000, 16_000].includes(ms) ? 1e9 : ms, ...more)
		}
	}`)
	b.open(at + "/?view=try&name=web")
	b.sees(card("json"), `"id":"web-1"`)
	retrytest.Eventually(t, "the page waits before it asks again", func() bool { return evaluate[bool](b, "window.waits === true") })
	a.register("web", "web-2")
	b.sees(card("json"), `"id":"web-2"`)
}

// The view is loaded when it is opened. Where that fails, the page says so.
func TestTryIsLoadedLater(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect("net::ERR_|Failed to fetch|status of 503")
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	const loaded = `performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/view_try.js')).length`
	if n := evaluate[int](b, loaded); n != 0 {
		t.Error("the view is loaded before it is opened")
	}
	a.stop()
	b.sees(freshness, "away")
	b.click("nav a", "Try it")
	b.sees("main [role=alert]", "did not send this view")
	a.start()
	b.sees(freshness, "live")
	b.click("main button", "Load the page again")
	b.sees("main", "Give the name of a service")
	retrytest.Eventually(t, "the view is loaded", func() bool { return evaluate[int](b, loaded) == 1 })
}
