package browser_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// A reader of the changes who leaves the page and is back before the page has noticed sees what comes.
func TestChangesReaderComesBack(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url("?view=changes"))
	b.sees(rows, "web/web-1 ● added")
	a.register("web", "web-2")
	b.sees(rows, "web/web-2 ● added") // the stream is open
	evaluate[chromedp.Void](b, `dispatchEvent(new PageTransitionEvent('pagehide')), dispatchEvent(new PageTransitionEvent('pageshow')), undefined`)
	a.register("web", "web-3")
	b.sees(rows, "web/web-3 ● added")
}

// An agent that is away for long costs the page no more with each time that it is asked.
func TestChangesOfAnAgentThatIsAwayForLong(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect(`net::ERR_`)
	b.before(`(() => {
		const {addEventListener: add, removeEventListener: remove} = EventTarget.prototype
		const listeners = new Set()
		EventTarget.prototype.addEventListener = function (type, f, options) {
			if (this instanceof AbortSignal) listeners.add(f)
			return add.call(this, type, f, options)
		}
		EventTarget.prototype.removeEventListener = function (type, f, options) {
			listeners.delete(f)
			return remove.call(this, type, f, options)
		}
		window.listeners = listeners
		window.asked = 0
		const real = fetch
		window.fetch = (path, options) => {
			if (String(path).startsWith('/v1/history')) window.asked++
			return real(path, options)
		}
	})()`)
	b.open(a.url("?view=changes"))
	b.sees(rows, "web/web-1 ● added")
	a.stop()
	b.sees("main", "The changes below stay")
	before := evaluate[int](b, "asked")
	retrytest.Eventually(t, "the agent is asked again", func() bool { return evaluate[int](b, "asked") >= before+3 })
	if n := evaluate[int](b, "listeners.size"); n > 1 {
		t.Errorf("%d listeners wait for the end of the view", n)
	}
}

// A choice of rows that is none, as in an address that somebody has made up, shows all rows.
func TestChangesOfNoKind(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	for _, only := range []string{"__proto__", "constructor", "toString", "unknown"} {
		b.open(a.url("?only=" + only))
		b.sees(rows, "web 1 of 1")
		b.open(a.url("?service=web&only=" + only))
		b.sees(rows, "web-1 ● passing")
		b.open(a.url("?view=changes&only=" + only))
		b.sees(rows, "web/web-1 ● added")
	}
}

// The name of a service that is being typed stays while changes come.
func TestChangesFilterStays(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url("?view=changes"))
	b.sees(rows, "web/web-1 ● added")
	b.replace(".filter input", "we")
	a.register("db", "db-1")
	b.sees(rows, "db/db-1 ● added")
	// What the filter has whenever the page changes, also before that is drawn.
	const filter = "document.querySelector('.filter input').value"
	evaluate[bool](b, `filters = new Set(), new MutationObserver(() => {
		if (document.querySelector('h1').innerText === 'Changes of web') filters.add(`+filter+`)
	}).observe(document.body, {subtree: true, childList: true, characterData: true}), true`)
	b.keys("b\r")
	b.sees("h1", "Changes of web")
	if names := evaluate[string](b, "[...filters].join()"); names != "web" {
		t.Errorf("the filter has %q", names)
	}
	b.click("a", "All services")
	b.sees("h1", "Changes")
	b.sees(rows, "db/db-1 ● added")
	retrytest.Eventually(t, "the filter is empty with all services", func() bool {
		return evaluate[string](b, filter) == ""
	})
}

// Where the agent is away before it has said anything of the changes, the page does not say that there are none.
func TestChangesNotReadYet(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect(`net::ERR_|status of 503`)
	b.open(a.url("?view=changes"))
	b.sees(rows, "web/web-1 ● added")
	b.click("nav a", "Now")
	b.sees(rows, "web 1 of 1")
	a.stop()
	b.sees(freshness, "away")
	b.click("nav a", "Changes")
	b.sees("main", "does not answer. The changes come when it is back.")
	for _, wrong := range []string{"has seen no changes", "no change yet", "stay"} {
		if text := b.text("main"); strings.Contains(text, wrong) {
			t.Errorf("the page knows nothing of the changes, and says: %s", text)
		}
	}
	a.start()
	a.register("web", "web-2")
	b.sees(rows, "web/web-2")
	b.seesNot("main", "does not answer")
}

// Where the agent does not explain an instance, the page says so beside what it knows of it.
func TestWhyNotKnown(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("web", "web-2")
	b := openTab(t)
	b.expect(`net::ERR_|status of (404|503)`)
	b.open(a.url("?service=web&instance=web-1"))
	b.sees("main", "answered: its status is passing")
	b.sees(".history", "added")
	b.click(".path a", "web")
	b.sees(rows, "web-2")
	a.stop()
	b.sees(freshness, "away")
	b.click(".table a", "web-2")
	b.sees("main", "Why it is answered or not is not known: The agent at")
	b.sees("main", "passing")
	a.start()
	b.sees("main", "answered: its status is passing")
	b.seesNot("main", "is not known")
}
