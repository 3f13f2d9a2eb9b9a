package browser_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// A page that is left open for hours has no more elements and listeners than before, however many
// instances have come and gone, and however often the reader has gone from view to view.
func TestNothingGrows(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	client := etcdtest.Client(t, etcd.Endpoint())
	b := openTab(t)
	_, err := chromedp.Call(b.ctx, performance.Enable, performance.EnableParams{})
	b.must(err)
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	// A round goes through the views, while instances come and go.
	round := func(n int) {
		passing := make([]discovery.Instance, 100)
		for k := range passing {
			passing[k] = discovery.Instance{Service: "churn", ID: fmt.Sprintf("%d-%d", n, k), Node: "host-9", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}
		}
		put(t, client, passing...)
		b.sees(rows, "churn 100 of 100")
		for _, view := range []struct{ link, shows string }{
			{"a[href='/?service=churn']", "churn"}, {"a[href^='/?service=churn&instance=']", fmt.Sprint(n, "-")},
			{"a[href='/?view=nodes']", "Nodes"}, {"a[href^='/?view=nodes&node=']", "host-"}, {"nav a.brand", "Now"},
		} {
			click := fmt.Sprintf("(() => { const e = document.querySelector(%s); e?.click(); return !!e })()", quote(view.link))
			retrytest.Eventually(t, view.link, func() bool { return evaluate[bool](b, click) })
			b.sees("h1", view.shows)
		}
		for k := range passing {
			passing[k].Leaving = true // otherwise they would be kept as suspects
		}
		put(t, client, passing...)
		b.seesNot(rows, "churn")
		_, err := client.Delete(t.Context(), discovery.NewKeys("default").Instance("churn", ""), clientv3.WithPrefix())
		b.must(err)
	}
	for n := range 6 { // until the page remembers as many that are gone as it may
		round(n)
	}
	before := b.grown()
	for n := range 10 {
		round(100 + n)
	}
	after := b.grown()
	for _, name := range []string{"Nodes", "JSEventListeners", "JSHeapUsedSize"} {
		t.Logf("%s: %.0f before, %.0f after", name, before[name], after[name])
	}
	for _, name := range []string{"Nodes", "JSEventListeners"} {
		if after[name] > before[name]*1.2+20 {
			t.Errorf("the page has %.0f of %s, and had %.0f", after[name], name, before[name])
		}
	}
}

// grown returns the browser's numbers of what may grow.
func (b *tab) grown() map[string]float64 {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, heapprofiler.CollectGarbage, cdp.Empty{})
	b.must(err)
	metrics, err := chromedp.Call(b.ctx, performance.GetMetrics, cdp.Empty{})
	b.must(err)
	numbers := map[string]float64{}
	for _, m := range metrics.Metrics {
		numbers[m.Name] = m.Value
	}
	return numbers
}
