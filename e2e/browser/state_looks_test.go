package browser_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The views of shared state: no view is wider than its screen, axe-core finds nothing in it where
// AXE_CORE names it, and pictures are kept with -artifacts.
func TestStateLooks(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	for n := range 30 {
		a.write(fmt.Sprintf("app/users/feature-%d", n), "on")
	}
	a.write("app/greeting", "hello")
	a.write("app/db/primary", `{"host":"10.0.0.5"}`)
	a.write("app/db/primary", `{"host":"10.0.0.5","port":5432,"replicas":["10.0.0.6","10.0.0.7"]}`)
	a.write("deploy/"+strings.Repeat("long-", 40), "\x00\x01")
	a.register("gpu", "gpu-1")
	a.answered("gpu", 1)
	for _, name := range []string{"migration", "nightly-report"} {
		a.lock(name)
	}
	waiting, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		for waiting.Err() == nil { // etcd may be too slow for a request
			_, _ = a.Lock(waiting, "migration", api.LockOptions{Wait: time.Hour}) // it is given up
		}
	}()
	defer func() {
		leave()
		<-left
	}()
	a.claim("gpu")
	for name, limit := range map[string]discovery.Limit{"sms": {Rate: 50}, "mail": {Rate: 100, Per: discovery.Duration(time.Minute), Burst: 10, OnUnavailable: discovery.AllowUnavailable}} {
		a.limit(name, limit)
	}
	axe := ""
	if path := os.Getenv("AXE_CORE"); path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		axe = string(content)
	}
	b := openTab(t)
	look := func(name string, width int64, scheme string) {
		t.Helper()
		where := fmt.Sprintf("state-%s-%d-%s", name, width, scheme)
		if wide := evaluate[int](b, "document.documentElement.scrollWidth"); int64(wide) > width {
			t.Errorf("%s is %d pixels wide", where, wide)
		}
		picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		b.must(err)
		b.must(os.WriteFile(filepath.Join(t.ArtifactDir(), where+".png"), picture, 0o644))
		if axe == "" {
			return
		}
		evaluate[chromedp.Void](b, axe)
		for _, violation := range evaluate[[]string](b, `axe.run().then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html + ' ' + n.failureSummary)))`) {
			t.Errorf("%s: %s", where, violation)
		}
	}
	for _, width := range []int64{1440, 820, 390} {
		b.size(width, 900)
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			for _, v := range []struct{ name, query, shows string }{
				{"keys", "&open=app/,app/db/,deploy/", "greeting"},
				{"key", "&key=app/db/primary&only=history", "as it is now"},
				{"hex", "&key=" + url.QueryEscape("deploy/"+strings.Repeat("long-", 40)), "00000000"},
				{"gone", "&key=nothing", "The key is not there."},
				{"locks", "&tab=locks", "waits, next"},
				{"claims", "&tab=claims", "gpu-1"},
				{"limits", "&tab=limits", "sms"},
			} {
				b.open(a.url("?view=state" + v.query))
				b.sees("main", v.shows)
				b.sees(freshness, "live")
				look(v.name, width, scheme)
			}
			b.open(a.url("?view=state&key=app/db/primary"))
			b.click("button", "Edit")
			b.replace("dialog textarea", "none")
			b.sees("dialog", "+ none")
			look("edit", width, scheme)
		}
	}
}

// The tree is used without a mouse: the arrows go from row to row, open and close.
func TestStateKeyboard(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.write("app/db/primary", "x")
	a.write("app/greeting", "hello")
	a.write("flag", "on")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(freshness, "live")
	b.tabTo("Shared state")
	b.keys(kb.Enter)
	b.sees(rows, "flag")
	retrytest.Eventually(t, "the heading has the focus", func() bool { return evaluate[bool](b, "document.activeElement?.tagName === 'H1'") })
	b.focused("Shared state")
	b.keys("/", kb.ArrowDown)
	b.focused("app/")
	b.keys(kb.ArrowRight)
	b.sees(rows, "greeting")
	b.focused("app/")
	b.keys(kb.ArrowDown)
	b.focused("db/")
	b.keys(" ")
	b.sees(rows, "primary")
	b.keys(kb.ArrowLeft)
	b.seesNot(rows, "primary")
	b.keys(kb.ArrowUp, kb.ArrowLeft)
	b.seesNot(rows, "greeting")
	b.keys(kb.ArrowRight)
	b.sees(rows, "greeting")
	b.keys(kb.End, kb.ArrowUp)
	b.focused("greeting")
	b.keys(kb.Enter)
	b.focused("app/greeting") // the heading
	b.sees("pre", "hello")
	b.tabTo("Edit …")
	b.keys(kb.Enter)
	b.sees("dialog", "Nothing will change.")
	b.keys(kb.End, "!")
	b.sees("dialog", "+ hello!")
	b.tabTo("Change app/greeting")
	b.keys(kb.Enter)
	b.sees("main pre", "hello!")
	b.sees(".notices", "changed at revision") // the dialog, which keeps the focus, is closed
	b.tabTo("Undo")
	b.keys(kb.Enter)
	b.keeps(a, "app/greeting", "hello")
}
