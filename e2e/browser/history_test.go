package browser_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// Who came, went and changed, with the reason, as it happens; of all services or of one.
func TestChanges(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("api", "api-1")
	a.answered("api", 1)
	b := openTab(t)
	b.open(a.url("?view=changes"))
	b.sees(rows, "web/web-1 ● added address 10.0.0.1:8080, status passing, zone a its agent on host-1 registered it")
	b.sees(rows, "watched this agent sees the changes from here on")
	b.sees("main", "The history of this agent begins at revision")
	b.sees("main", ", when it began to watch.")
	b.sees(rows, "~")

	a.override("web", "web-1", `{"state":"drain"}`)
	b.sees(rows, "web/web-1 changed state up → drain an operator set state=drain")
	_, err := a.Deregister(t.Context(), "api", "api-1")
	b.must(err)
	b.sees(`[data-row="0"]`, "api/api-1 ■ gone its agent on host-1 deregistered it")

	b.keys("/", kb.ArrowDown)
	b.focused("api/api-1")
	b.keys(kb.End) // a row without an instance
	b.focused("all")
	a.register("db", "db-1") // waits while the reader goes from row to row
	b.sees(".newer", "1 new change, show")
	b.keys(kb.Home)
	b.focused("api/api-1")
	b.click("button", "1 new change, show")
	b.sees(`[data-row="0"]`, "db/db-1 ● added")

	b.replace(".filter input", "Web\r")
	b.sees("h1", "Changes of web")
	b.seesNot(rows, "api/api-1")
	b.sees(rows, "web/web-1 changed")
	if at := evaluate[string](b, "location.search"); at != "?view=changes&service=Web" {
		t.Errorf("the filter is %q in the URL", at)
	}
	a.register("web", "web-2")
	a.register("api", "api-2")
	b.sees(`[data-row="0"]`, "web/web-2 ● added")
	b.click("button", "Came")
	b.seesNot(rows, "state up → drain")
	b.do(reload)
	b.sees(rows, "web/web-2 ● added")
	b.seesNot(rows, "api/api-2")
	b.seesNot(rows, "state up → drain")
	b.click("a", "All services")
	b.sees(rows, "api/api-2 ● added")
	b.click(".table a", "web/web-2")
	b.sees("h1", "web-2")
}

// Older changes are read when the reader wants them. What comes while the reader is further down waits.
func TestOlderChanges(t *testing.T) {
	const n = 1500
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	many := make([]discovery.Instance, n)
	for i := range many {
		many[i] = discovery.Instance{Service: "web", ID: fmt.Sprintf("i-%d", i), Node: "host-9", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}
	}
	client := etcdtest.Client(t, etcd.Endpoint())
	put(t, client, many...)
	a.answered("web", n)
	b := openTab(t)
	b.open(a.url("?view=changes&service=web"))
	b.sees(rows, "web/i-1499 ● added")
	b.sees(".filters", "All 200")
	b.click("button", "Older changes")
	b.sees(".filters", "All 1,200")
	b.click("button", "Older changes")
	b.sees(".filters", "All 1,501")
	b.seesNot("main", "Older changes")
	evaluate[bool](b, "scrollTo(0, 1e6), true")
	b.sees(rows, "watched")

	if down := evaluate[bool](b, "scrollTo(0, 2000), scrollY > 1000"); !down {
		t.Fatal("the page does not scroll")
	}
	b.sees(rows, "web/i-1430 ")
	for i := range many[:1000] {
		many[i].Status = discovery.Critical
	}
	put(t, client, many[:1000]...)
	b.sees(".newer", "1,000 new changes, show")
	b.sees(".filters", "All 1,501")
	b.sees(rows, "web/i-1430 ")
	b.click("button", "1,000 new changes, show")
	b.sees(`[data-row="0"]`, "web/i-999 ✕ changed status passing → critical its status is critical")
	b.sees(".filters", "All 2,501")
	if drawn := evaluate[int](b, "document.querySelectorAll('[data-row]').length"); drawn > 200 {
		t.Errorf("the document has %d rows", drawn)
	}
}

// Where the agent was cut off from etcd, or is started anew, the page keeps what it had and shows the gap.
func TestGaps(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcdtest.Client(t, etcd.Endpoint())
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a := startAgent(t, link.Endpoint())
	a.register("web", "web-1")
	a.answered("web", 1)
	b := openTab(t)
	b.expect(`net::ERR_|status of 503`)
	b.open(a.url("?view=changes"))
	b.sees(rows, "web/web-1 ● added")

	link.Freeze()
	elsewhere := discovery.Instance{Service: "api", ID: "api-1", Node: "host-9", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}
	put(t, client, elsewhere)
	now, err := client.Get(t.Context(), "any")
	b.must(err)
	_, err = client.Compact(t.Context(), now.Header.Revision) // the agent has to compare
	b.must(err)
	link.Cut()
	link.Mend()
	b.sees(rows, "this agent was cut off from etcd: what it found by comparing afterwards is marked so")
	b.sees(rows, "api/api-1 ● added address 10.0.0.1:80, status passing compared its agent on host-9 registered it")
	if gap := b.text(".row.gap"); !strings.Contains(gap, " – ~") {
		t.Errorf("a gap does not say from when to when it lasts: %s", gap)
	}

	a.stop()
	b.sees("main", "The changes below stay")
	b.sees(rows, "web/web-1 ● added")
	a.start()
	b.sees(rows, "gap the agent has been started since, and its history begins anew")
	b.sees(rows, "web/web-1 ● added")
	b.seesNot("main", "The changes below stay")
	a.is("/readyz/registered") // it has registered web-1 again
	a.register("web", "web-2")
	b.sees(`[data-row="0"]`, "web/web-2 ● added")
	b.click("button", "Gaps")
	b.seesNot(rows, "web/web-2")
	b.sees(rows, "begins anew")
}

// An instance has what the agent and etcd know of it, what to do, and its own history; also one that is gone.
func TestWhy(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("web", "web-2")
	b := openTab(t)
	b.open(a.url("?service=web&instance=web-1"))
	b.sees("main", "answered: its status is passing")
	b.sees("main", "on host-1 (this one), whose session lives; etcd heard of it")
	b.sees("main", "etcd has the record of revision")
	b.sees("main", "Here registered through this agent (api), written")
	b.sees(".history", "added address 10.0.0.1:8080, status passing, zone a its agent on host-1 registered it")

	b.click("button", "Drain")
	b.click("dialog button", "Drain web/web-1")
	b.sees("main", "not answered: its state is drain")
	b.sees(".next", "Put it back with disc undrain web/web-1")
	if command := b.text(".next code"); command != "disc undrain web/web-1" {
		t.Errorf("the command is %q", command)
	}
	b.sees("main", "etcd has the record of revision")
	b.sees("main", ", the override of revision")
	b.sees(".history", "changed state up → drain an operator set state=drain")
	if other := b.text(".history"); strings.Contains(other, "web-2") {
		t.Errorf("the history of an instance has another: %s", other)
	}

	_, err := a.Deregister(t.Context(), "web", "web-1")
	b.must(err)
	b.sees("main", "It is gone since revision")
	b.sees(".next", "start that again, or register it anew")
	b.do(reload)
	b.sees(banners+" ~ main", "It is gone: its agent on host-1 deregistered it.")
	b.sees(".next", "start that again, or register it anew")
	b.sees(".history", "gone its agent on host-1 deregistered it")
	b.click("a", "All changes of web")
	b.sees("h1", "Changes of web")
	b.open(a.url("?service=web"))
	b.click("a", "What has changed")
	b.sees("h1", "Changes of web")
	b.sees(rows, "web/web-2 ● added")

	b.expect(`status of 404`)
	b.open(a.url("?service=web&instance=web-3"))
	b.sees("main", `instance "web-3" of service "web" is not known; did you mean "web-2"`)
}

// Each service has a strip of the last minutes: of what the agent has seen before the page was opened,
// and what the page sees. Before the agent began, it is not known.
func TestStrips(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("web", "web-2")
	a.register("db", "db-1")
	a.answered("web", 2)
	b := openTab(t)
	says := func(service string) string {
		return evaluate[string](b, fmt.Sprintf(`[...document.querySelectorAll('[data-row]')].find((e) => e.innerText.startsWith(%s))?.querySelector('svg').getAttribute('aria-label') ?? ''`, quote(service)))
	}
	override := func(id, state string, answered int) {
		t.Helper()
		a.override("web", id, `{"state":"`+state+`"}`)
		a.answered("web", answered)
	}
	// Where the history begins in the midst of a slot, that slot is not known; a later one is.
	retrytest.Eventually(t, "a strip of what was before the page", func() bool {
		override("web-2", "drain", 1)
		override("web-2", "up", 2)
		b.open(a.url(""))
		b.sees(rows, "web 2 of 2")
		retrytest.Eventually(t, "the history", func() bool {
			return evaluate[bool](b, "performance.getEntriesByType('resource').some((e) => e.name.includes('/v1/history?since') && e.responseEnd > 0)")
		})
		evaluate[bool](b, "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))")
		return strings.Contains(says("web"), " healthy, up to 1 not; ")
	})
	if got := says("db"); !strings.HasPrefix(got, "In the last 10 min: 1 healthy; ") || !strings.HasSuffix(got, " of it not known") {
		t.Errorf("the strip of db says %q", got)
	}

	override("web-1", "drain", 1)
	override("web-2", "drain", 0)
	retrytest.Eventually(t, "what the page sees", func() bool {
		return strings.Contains(says("web"), ": 0 ") && strings.Contains(says("web"), " healthy, up to 2 not; ")
	})
	if n := evaluate[int](b, "[...document.querySelectorAll('.strip')].filter((e) => e.querySelector('.none[d^=M]')).length"); n != 1 {
		t.Errorf("%d strips show that none was healthy", n)
	}
}

// Of 1,000 services, only the strips in view are in the document.
func TestManyStrips(t *testing.T) {
	const services = 1000
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	client := etcdtest.Client(t, etcd.Endpoint())
	fleet := make([]discovery.Instance, services)
	for n := range fleet {
		fleet[n] = discovery.Instance{Service: fmt.Sprintf("s-%04d", n), ID: "i", Node: "host-9", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}
	}
	put(t, client, fleet...)
	b := openTab(t)
	b.open(a.url(""))
	b.sees("#services", "1,000")
	b.scrolls("1,000 services")
	b.sees(rows, "s-0999")
	evaluate[bool](b, watchFrames)
	for n := range fleet {
		fleet[n].Status = discovery.Critical
	}
	put(t, client, fleet...)
	b.sees(rows, "s-0999 0 of 1 ✕ 1")
	t.Logf("all 1,000 change: the longest frame took %.0f ms", evaluate[float64](b, "window.longestFrame"))
	if n := evaluate[int](b, "document.querySelectorAll('.strip').length"); n == 0 || n > 200 {
		t.Errorf("the document has %d strips", n)
	}
	retrytest.Eventually(t, "each strip in view shows the change", func() bool {
		return evaluate[bool](b, "[...document.querySelectorAll('.strip')].every((e) => e.querySelector('.none[d^=M]'))")
	})
}

// An agent that keeps no history says so, and a name that is none is refused in a sentence.
func TestNoHistory(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startNode(t, "host-1", etcd.Endpoint(), "catalog: {history_bytes: 0}\n")
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	// The strip has what the page sees, and not what it does not see.
	knows := func(what string, want bool) {
		t.Helper()
		retrytest.Eventually(t, what, func() bool {
			return evaluate[bool](b, "(document.querySelector('.strip .known')?.getAttribute('d') ?? '').includes('H60')") == want
		})
	}
	knows("that the page knows what is now", true)
	b.expect(`net::ERR_|status of 503`)
	a.stop()
	knows("that the page does not know any more", false)
	a.start()
	knows("that the page knows again", true)
	b.expect(`status of 404`)
	b.open(a.url("?view=changes"))
	b.sees("main", "No changes are shown: this agent keeps no history: its setting catalog.history_bytes is 0.")

	other := startNode(t, "host-2", etcd.Endpoint(), "")
	b.expect(`status of 400`)
	b.open(other.url("?view=changes&service=%3Cb%3E"))
	b.sees("main", `The agent refuses to show the changes: service name "<b>"`)
	b.open(other.url("?view=changes&service=unknown"))
	b.sees("h1", "Changes of unknown")
	b.seesNot("main", "refuses")
	b.sees("main", "The history of this agent begins")
}

// A module of a view that is not opened is not loaded. Where the agent does not send it, the page says so.
func TestViewIsLoadedWhenOpened(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	b := openTab(t)
	b.expect(`net::ERR_|status of (404|503)`)
	b.open(a.url(""))
	b.sees(freshness, "live")
	if loaded := evaluate[bool](b, "performance.getEntriesByType('resource').some((e) => e.name.includes('view_changes'))"); loaded {
		t.Error("the view is loaded before it is opened")
	}
	a.stop()
	b.sees(freshness, "away")
	b.click("nav a", "Changes")
	b.sees("main", "did not send this view")
	a.start()
	b.sees(freshness, "live")
	b.click("main button", "Try again")
	b.sees("h1", "Changes")
}
