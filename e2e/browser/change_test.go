package browser_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

var reload = chromedp.Reload()

// A change is refused without a token, and made with one; it can be undone.
func TestDrainAndUndo(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), withTokens())
	a.register("web", "web-1")
	a.register("web", "web-2")
	b := openTab(t)
	b.expect(`status of 401`)
	b.open(a.url("?service=web"))
	b.sees(rows, "web-1")

	b.click("button", "Drain web-1")
	b.sees("dialog", "Its state: up → drain.")
	b.sees("dialog", "Lookups of web find 1 instance in place of 2.")
	b.click("dialog button", "Drain web/web-1")
	b.sees("dialog", "token")
	b.sees("dialog [role=alert]", "operate")
	a.answered("web", 2) // nothing was changed

	b.replace("dialog input[name=token]", opsToken)
	b.click("dialog button", "Use the token")
	b.click("dialog button", "Drain web/web-1")
	b.sees(".notices", "web/web-1: state up → drain at revision")
	a.answered("web", 1)
	b.sees(rows, "web-1 ‖ drain, passing out")

	b.click("button", "Undo")
	b.sees(".notices", "the change was undone")
	a.answered("web", 2)
	b.sees(rows, "web-1 ● passing in")

	if kept := evaluate[string](b, "location.href + JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie"); kept != a.url("?service=web")+"{}" {
		t.Errorf("the token is kept where the reader did not say so: %s", kept)
	}
}

// The weight of an instance, and the end of an override.
func TestWeight(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint()) // without tokens it may override its own instances
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url("?service=web&instance=web-1"))
	b.click("button", "Change state or weight")
	b.sees("dialog", "Nothing will change.")
	b.replace("dialog input[name=weight]", "7")
	b.sees("dialog", "Its weight: 1 → 7.")
	b.click("dialog button", "Change web/web-1")
	b.sees("main", "Weight 7")
	b.sees("#override + dl", "weight 7")
	b.click("button", "Remove the override")
	b.sees("dialog", "Its weight is that of the record again.")
	b.click("dialog button", "Remove the override of web/web-1")
	b.sees("main", "Weight 1")
	retrytest.Eventually(t, "no override", func() bool { return b.text("#override") == "" })
	b.click("button", "Undo")
	b.sees("main", "Weight 7")
}

// Where nobody may read without a token, the page says so and takes one.
func TestTokenToRead(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), withTokens(), "anonymous: none")
	a.register("web", "web-1")
	b := openTab(t)
	b.expect(`status of 401`)
	b.open(a.url(""))
	b.sees(banners, "The agent refuses to show the fleet")
	b.click("button", "Give a token")
	b.replace("dialog input[name=token]", readerToken)
	b.click("dialog label", "Keep it in this tab")
	b.click("dialog button", "Use the token")
	b.sees(rows, "web 1 of 1")
	b.seesNot(banners, "refuses")
	b.do(reload)
	b.sees(rows, "web 1 of 1")

	// Who may read may not change anything.
	b.expect(`status of 403`)
	b.click(".table a", "web")
	b.click("button", "Drain web-1")
	b.click("dialog button", "Drain web/web-1")
	b.sees("dialog [role=alert]", "operate")
	a.answered("web", 1)
}

// A token that is given while requests without it are under way is used, though these are refused after it.
func TestTokenGivenWhileAsked(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), withTokens(), "anonymous: none")
	a.register("web", "web-1")
	l := newLine(t, a)
	holds := func(path string) {
		hold := func(r *http.Request) bool { return r.URL.Path == path && r.Header.Get("Authorization") == "" }
		l.hold.Store(&hold)
	}
	b := openTab(t)
	b.expect(`status of 401`)
	b.waitsOn()
	holds("/v1/history")
	b.open(l.url + "?view=changes")
	b.sees(banners, "The agent refuses to show the fleet")
	changes := <-l.held
	holds("/v1/watch")
	retrytest.Eventually(t, "the fleet is asked for again", func() bool {
		evaluate[chromedp.Void](b, "dispatchEvent(new Event('online')), undefined")
		return len(l.held) > 0
	})
	b.click("button", "Token")
	b.replace("dialog input[name=token]", readerToken)
	b.click("dialog button", "Use the token")
	close(<-l.held)
	b.sees(freshness, "live")
	close(changes)
	b.sees(rows, "web/web-1 ● added")
}

// All can be done without a mouse.
func TestKeyboard(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	for _, service := range []string{"api", "db", "web"} {
		a.register(service, service+"-1")
		a.register(service, service+"-2")
	}
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "web")
	b.keys("/", "w", kb.Backspace, kb.ArrowDown)
	b.focused("api")
	b.keys(kb.End)
	b.focused("web")
	b.keys(kb.ArrowUp)
	b.focused("db")
	b.keys(kb.ArrowDown, kb.Enter)
	b.sees("h1", "web")
	b.focused("web") // the heading
	b.sees(rows, "web-1 ● passing in")
	b.tabTo("Drain web-1")
	b.keys(kb.Enter)
	b.sees("dialog", "Its state: up → drain.")
	b.keys(kb.Escape)
	b.seesNot("dialog", "Its state")
	b.focused("Drain web-1")
	b.keys(kb.Enter)
	b.focused("Drain web/web-1")
	b.keys(kb.Enter)
	b.sees(rows, "drain, passing out")
	b.sees(".notices", "state up → drain") // the dialog, which keeps the focus, is closed
	b.tabTo("Undo")
	b.keys(kb.Enter)
	b.sees(rows, "web-1 ● passing in")
	b.open(a.url(""))
	b.sees(rows, "web")
	b.tabTo("Nodes")
	b.keys(kb.Enter)
	b.sees("h1", "Nodes")
}

// replace types a text in place of what a field has, once it is there.
func (b *tab) replace(selector, text string) {
	b.t.Helper()
	retrytest.Eventually(b.t, selector, func() bool {
		return evaluate[bool](b, fmt.Sprintf("(() => { const e = document.querySelector(%s); e?.focus(); e?.select(); return !!e && document.activeElement === e })()", quote(selector)))
	})
	b.keys(text)
}

const activeName = `(document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.innerText ?? '').trim()`

// focused waits until the element with the focus has a name.
func (b *tab) focused(name string) {
	b.t.Helper()
	retrytest.Succeeds(b.t, func() error {
		if got := evaluate[string](b, activeName); got != name {
			return fmt.Errorf("the focus is on %q, want %q", got, name)
		}
		return nil
	})
}

// tabTo presses Tab until the element with the focus has a name, and is seen to have it.
func (b *tab) tabTo(name string) {
	b.t.Helper()
	for range 200 {
		b.keys(kb.Tab)
		if evaluate[string](b, activeName) != name {
			continue
		}
		if !evaluate[bool](b, `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect(); return s.outlineStyle !== 'none' && r.top >= 0 && r.bottom <= innerHeight })()`) {
			b.t.Errorf("the focus on %s is not seen", name)
		}
		return
	}
	b.t.Fatalf("Tab does not come to %s", name)
}

// Over the Unix socket, which a reader forwards to a port of their own, the page works under any name.
func TestOverSocket(t *testing.T) {
	etcd := etcdtest.Start(t)
	socket := filepath.Join(shortDir(t), "s")
	a := startAgent(t, etcd.Endpoint(), "socket: "+socket)
	a.register("web", "web-1")
	a.register("web", "web-2")
	at := forward(t, socket) // for as long as the browser asks
	b := openTab(t)
	b.open("http://" + at + "/?service=web")
	b.sees(rows, "web-2 ● passing in")
	b.click("button", "Drain web-2")
	b.click("dialog button", "Drain web/web-2")
	b.sees(rows, "drain, passing out")
	a.answered("web", 1)
}

// shortDir returns a directory whose path a socket's may begin with.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "page-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// forward forwards a port to a Unix socket, as ssh -L does, until the test ends. It returns the address.
func forward(t *testing.T, socket string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	forwardAll(t, l, "unix", socket)
	return l.Addr().String()
}

// forwardAll forwards all connections of a listener to an address, until the test ends.
func forwardAll(t *testing.T, l net.Listener, network, address string) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				to, err := net.Dial(network, address)
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(to, from)
					to.Close()
				}()
				_, _ = io.Copy(from, to)
			}()
		}
	}()
}
