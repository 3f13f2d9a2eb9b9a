package browser_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// views are the views of the page, by name.
var views = []struct{ name, query, shows string }{
	{"now", "", "payroll"},
	{"service", "?service=web", "web-3"},
	{"instance", "?service=web&instance=web-2", "web-2"},
	{"nodes", "?view=nodes", "host-1"},
	{"node", "?view=nodes&node=host-1", "web-1"},
	{"changes", "?view=changes", "cart/cart-1"},
	{"try", "?view=try&name=web&tag=v2", "Answered in 7 of 7 forms."},
}

// troubledFleet is a fleet with something of everything that the page shows.
func troubledFleet(t *testing.T) *agent {
	t.Helper()
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	for _, service := range []string{"api", "billing", "cart", "checkout", "gateway", "search", "users", "web"} {
		for n := range 3 {
			a.register(service, fmt.Sprintf("%s-%d", service, n+1))
		}
	}
	fails := discovery.CheckSpec{ID: "http", Name: "http /healthz", Type: discovery.CheckHTTP, URL: "http://127.0.0.1:1/healthz", Interval: discovery.Duration(1e9)}
	a.register("web", "web-2", fails)
	a.register("payroll", "payroll-1", fails)
	a.register("jobs", "jobs-1", discovery.CheckSpec{ID: "ttl", Type: discovery.CheckTTL, TTL: discovery.Duration(3600e9)})
	a.answered("web", 2)
	a.answered("payroll", 0)
	a.override("cart", "cart-1", `{"state":"drain","weight":3}`)
	return a
}

// axe-core finds no violation, in light and in dark, on a wide screen and on a telephone.
func TestAccessible(t *testing.T) {
	path := os.Getenv("AXE_CORE")
	if path == "" {
		t.Skip("AXE_CORE does not name axe.min.js of axe-core; .ci/run gets it from npm")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := troubledFleet(t)
	b := openTab(t)
	check := func(t *testing.T, where string) {
		t.Helper()
		evaluate[chromedp.Void](b, string(axe))
		found := evaluate[[]string](b, `axe.run().then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html + ' ' + n.failureSummary)))`)
		for _, violation := range found {
			t.Errorf("%s: %s", where, violation)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		for _, width := range []int64{1440, 390} {
			b.size(width, 900)
			for _, v := range views {
				b.open(a.url(v.query))
				b.sees("main", v.shows)
				check(t, fmt.Sprintf("%s %d %s", scheme, width, v.name))
			}
		}
		b.click("button", "Token")
		check(t, scheme+" token")
		b.open(a.url("?service=web"))
		b.click("button", "Drain web-1")
		b.sees("dialog", "What will change")
		check(t, scheme+" change")
		b.click("dialog button", "Drain web/web-1")
		b.sees(".notices", "state up → drain")
		check(t, scheme+" notice")
		b.click("button", "Undo")
		b.sees(".notices", "undone")
	}
	b.expect("net::ERR_")
	a.stop()
	b.sees(banners, "tries again")
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		check(t, scheme+" without the agent")
	}
}

// Pictures of the views, which are kept with -artifacts. No view is wider than its screen.
func TestScreenshots(t *testing.T) {
	a := troubledFleet(t)
	b := openTab(t)
	for _, width := range []int64{1440, 820, 390} {
		b.size(width, 900)
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			for _, v := range views {
				b.open(a.url(v.query))
				b.sees("main", v.shows)
				b.sees(freshness, "live")
				if wide := evaluate[int](b, "document.documentElement.scrollWidth"); int64(wide) > width {
					t.Errorf("%s is %d pixels wide on a screen of %d", v.name, wide, width)
				}
				picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				name := strings.Join([]string{v.name, fmt.Sprint(width), scheme}, "-") + ".png"
				if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
