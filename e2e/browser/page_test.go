package browser_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The rows of the table on the page, and what the header says.
const (
	rows      = ".table .body"
	freshness = ".freshness"
	banners   = "[aria-label=Connection]"
)

func TestServices(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("web", "web-2")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(freshness, "live")
	b.sees(rows, "web 2 of 2")
	b.sees("main", "Nothing is wrong.")

	a.register("api", "api-1") // comes by itself
	b.sees(rows, "api 1 of 1")
	b.click(".table a", "web")
	b.sees("h1", "web")
	b.sees(rows, "web-2")
	b.sees(rows, "10.0.0.1:8080")
	b.click(".table a", "web-2")
	b.sees("main", "answered: its status is passing")
	b.click("nav a", "Nodes")
	b.sees(rows, "host-1 this agent")
	b.click(".table a", "host-1")
	b.sees(rows, "api/api-1")
}

// A killed instance leaves the healthy ones when its check has failed.
func TestKilledInstanceVanishes(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	server, check := healthy(t)
	a.register("web", "web-1")
	a.register("web", "web-2", check)
	a.answered("web", 2)
	b := openTab(t)
	b.open(a.url("?service=web&only=in"))
	b.sees(rows, "web-2")
	server.Close()
	a.answered("web", 1)
	b.seesNot(rows, "web-2")
	b.sees(rows, "web-1")
	b.click("button", "All")
	b.sees(rows, "web-2 ✕ critical out http fails: GET")
	b.click("nav a", "Now")
	b.sees(".troubles", "1 of 2 instances critical: web-2 – http fails: GET")
	b.click(".troubles a", "web")
	b.click(".table a", "web-2")
	b.sees("pre", "connection refused")
	_, err := a.Deregister(t.Context(), "web", "web-2")
	b.must(err)
	b.sees("main", "It is gone since revision")
	b.sees("main", "its agent deregistered it")
	b.click("nav a", "Now")
	b.sees("main", "Nothing is wrong.")
}

// What is wrong with more than an instance: an id that two agents have, a record that nobody can
// read, and an agent that is gone with all that it registered.
func TestProblems(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcdtest.Client(t, etcd.Endpoint())
	one := startAgent(t, etcd.Endpoint())
	server, _ := healthy(t)
	for n := range 5 {
		one.registerAt("web", fmt.Sprintf("web-%d", n+1), server.Listener.Addr())
	}
	one.registerAt("job", "job-1", server.Listener.Addr())
	two := startNode(t, "host-2", etcd.Endpoint(), "services: [{service: job, id: job-1, port: 1}]\n")
	b := openTab(t)
	b.open(two.url(""))
	b.sees(rows, "web 5 of 5")
	b.sees(".troubles", "agent host-2 job/job-1 is registered twice")
	_, err := client.Put(t.Context(), discovery.NewKeys("default").Instance("web", "web-6"), "{")
	b.must(err)
	b.sees(".troubles", "1 record in etcd cannot be read")

	one.stop()
	one.expire(client, "web", "web-1")
	b.sees(".troubles", "web 5 suspects, which vanished with many others")
	b.sees(".troubles", "host-1 its agent has not been heard of")
	b.sees(rows, "web 5 of 5")
	b.click("nav a", "Nodes")
	b.sees(rows, "host-1 ✕ not heard of")
	b.click(".table a", "host-1")
	b.sees("main", "No agent on host-1 is heard of")
	b.sees(rows, "web/web-5 ? suspect")
}

// An agent that watches some services says so, and takes no other agent for gone.
func TestFewServicesWatched(t *testing.T) {
	etcd := etcdtest.Start(t)
	one := startAgent(t, etcd.Endpoint())
	one.register("web", "web-1")
	one.register("db", "db-1")
	two := startNode(t, "host-2", etcd.Endpoint(), "catalog: {watch: web}\n")
	b := openTab(t)
	b.open(two.url(""))
	b.sees(rows, "web 1 of 1")
	b.sees("main", "This agent watches only web, and knows no other service.")
	b.sees("main", "Nothing is wrong.")
	b.click("nav a", "Nodes")
	b.sees(rows, "host-1 not known here")
}

func TestSearch(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	for _, service := range []string{"web", "billing", "bills"} {
		a.register(service, "one")
	}
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "billing")
	b.keys("/billi")
	b.seesNot(rows, "web")
	b.seesNot(rows, "bills")
	b.sees(rows, "billing")
	retrytest.Eventually(t, "the search is in the URL", func() bool { return evaluate[string](b, "location.search") == "?q=billi" })
	b.do(reload)
	b.sees(rows, "billing")
	b.seesNot(rows, "web")
}

// What anybody can write into etcd is only text on the page.
func TestPoisonedRecord(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	const markup = `<img src=x onerror="document.title='poisoned'"><script>document.title='poisoned'</script>`
	put(t, etcdtest.Client(t, etcd.Endpoint()), discovery.Instance{
		Service: "web", ID: "web-1", Node: "host-9", Address: "10.0.0.1", Port: 80, Zone: markup, Weight: 1, Slots: 1,
		Tags: discovery.Tags{"v1"}, Meta: discovery.Meta{"k<b>": markup + "\u202egnp\n\x1b[2J", "url": "javascript:alert(1)"},
		Status: discovery.Critical, Checks: []discovery.CheckStatus{{ID: "c", Name: markup, Type: discovery.CheckTTL, Status: discovery.Critical}},
		Owner: "<b>owner", Run: markup,
	})
	b := openTab(t)
	b.expect(`status of 400`) // for names that are none
	for _, view := range []string{"", "?service=web", "?service=web&instance=web-1", "?view=nodes", "?view=nodes&node=host-9", "?view=changes", "?view=changes&service=%3Cb%3E", "?service=%3Cimg+src%3Dx%3E&instance=%3Cb%3E", "?q=%3Cimg%3E%E2%80%AE"} {
		b.open(a.url(view))
		b.sees(freshness, "live")
		if view == "?service=web&instance=web-1" {
			b.sees("main", markup)
			b.sees("main", `\u202egnp`)
			b.sees("main", "k<b>")
		}
		if view == "?view=changes" {
			b.sees(rows, "web/web-1 ✕ added")
			b.sees(rows, markup)
		}
		if view == "?q=%3Cimg%3E%E2%80%AE" {
			b.sees(".empty", `No service matches “<img>\u202e”.`)
		}
		if n := evaluate[int](b, `document.querySelectorAll('body img, body script, b[onerror], a[href^="javascript:"]').length`); n > 0 {
			t.Errorf("%q: a record became %d elements", view, n)
		}
		if title := evaluate[string](b, "document.title"); title == "poisoned" {
			t.Errorf("%q: a record ran", view)
		}
	}
}

// A burst of changes, and a long list of which the document has few rows.
func TestLargeFleet(t *testing.T) {
	const services, instances = 1000, 5000 // all in one service, and one more in each other
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	client := etcdtest.Client(t, etcd.Endpoint())
	fleet := make([]discovery.Instance, instances+services-1)
	for n := range fleet {
		service := "large"
		if n >= instances {
			service = fmt.Sprintf("s-%d", n)
		}
		fleet[n] = discovery.Instance{Service: service, ID: fmt.Sprintf("i-%d", n), Node: fmt.Sprintf("host-%d", n%200), Address: "10.0.0.1", Port: 80, Zone: "a", Weight: 1, Slots: 1, Tags: discovery.Tags{"v1"}, Status: discovery.Passing}
	}
	put(t, client, fleet...)
	b := openTab(t)
	b.open(a.url(""))
	b.sees("#services", "1,000")
	b.open(a.url("?service=large"))
	b.sees(".lead", "5,000 of 5,000")
	b.scrolls("5,000 rows")
	b.sees(rows, "i-4999")

	evaluate[bool](b, watchFrames)
	for n := range 1000 {
		fleet[n].Status = discovery.Critical
	}
	put(t, client, fleet[:1000]...)
	b.sees(".lead", "4,000 of 5,000")
	t.Logf("a burst of 1,000 changes: the longest frame took %.0f ms", evaluate[float64](b, "window.longestFrame"))
}

// scrolls scrolls to the end of the page, and writes down what that takes. Of so many rows, the document
// must have few at any time.
func (b *tab) scrolls(many string) {
	b.t.Helper()
	frames := evaluate[struct {
		Frames  int
		Longest float64
		Rows    int
		Memory  float64
	}](b, scrollThrough)
	b.t.Logf("scrolled through %s in %d frames, the longest of %.0f ms; at most %d rows in the document, %.1f MiB of JavaScript's memory",
		many, frames.Frames, frames.Longest, frames.Rows, frames.Memory/(1<<20))
	if frames.Rows > 200 {
		b.t.Errorf("the document has %d rows", frames.Rows)
	}
}

// scrollThrough scrolls to the end of the page, a screen in each frame.
const scrollThrough = `new Promise((resolve) => {
	let frames = 0, longest = 0, rows = 0, last = performance.now()
	const step = (now) => {
		longest = Math.max(longest, now - last)
		last = now
		rows = Math.max(rows, document.querySelectorAll('[data-row]').length)
		frames++
		if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) return resolve({Frames: frames, Longest: longest, Rows: rows, Memory: performance.memory.usedJSHeapSize})
		scrollBy(0, innerHeight)
		requestAnimationFrame(step)
	}
	requestAnimationFrame(step)
})`

// watchFrames notes the longest time between two frames.
const watchFrames = `(() => {
	let last = performance.now()
	window.longestFrame = 0
	const step = (now) => {
		window.longestFrame = Math.max(window.longestFrame, now - last)
		last = now
		requestAnimationFrame(step)
	}
	requestAnimationFrame(step)
	return true
})()`

// A page that is left open says what is wrong, keeps what it shows, and comes back by itself.
func TestAgentRestarts(t *testing.T) {
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a := startAgent(t, link.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect(`net::ERR_|status of 503`)
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")

	a.stop()
	b.sees(banners, "the page tries again")
	b.sees(freshness, "away")
	b.sees(rows, "web 1 of 1")
	a.start()
	b.sees(freshness, "live")
	b.seesNot(banners, "tries again")
	a.register("web", "web-2")
	b.sees(rows, "web 2 of 2")

	link.Freeze()
	b.sees(banners, "etcd has not confirmed the view of this agent for")
	b.sees(freshness, "stale")
	b.sees(rows, "web 2 of 2")
	link.Mend()
	b.seesNot(banners, "etcd")
	b.sees(freshness, "live")
	a.register("web", "web-3")
	b.sees(rows, "web 3 of 3")
	retrytest.Eventually(t, "no banner", func() bool { return b.text(banners) == "" })

	// An agent of another version has another page.
	evaluate[chromedp.Void](b, `document.querySelector('meta[name=page-version]').setAttribute('content', 'older')`)
	a.stop()
	b.sees(freshness, "away")
	a.start()
	b.sees(banners, "This page is older than the agent")
	b.click("button", "Load again")
	b.seesNot(banners, "older")
	b.sees(rows, "web 3 of 3")
}
