package browser_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// write writes a key, once etcd answers the agent.
func (a *agent) write(key, value string) (revision int64) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() (err error) {
		revision, err = a.KVPut(a.t.Context(), key, []byte(value), 0, nil)
		return err
	})
	return revision
}

// lock acquires a lock, once etcd answers the agent, which has no session when it has just begun.
func (a *agent) lock(name string) (lock api.Lock) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() (err error) {
		lock, err = a.Lock(a.t.Context(), name, api.LockOptions{TTL: time.Hour})
		return err
	})
	return lock
}

// claim claims an instance of a service, as lock does.
func (a *agent) claim(service string) (claim api.Claim) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() (err error) {
		claim, err = a.Claim(a.t.Context(), service, api.ClaimOptions{TTL: time.Hour})
		return err
	})
	return claim
}

// limit sets a limit, once etcd answers the agent.
func (a *agent) limit(name string, limit discovery.Limit) {
	a.t.Helper()
	retrytest.Succeeds(a.t, func() error {
		_, _, _, err := a.PutLimit(a.t.Context(), name, limit)
		return err
	})
}

// isAt waits until the address has a query.
func (b *tab) isAt(query string) {
	b.t.Helper()
	retrytest.Eventually(b.t, "the address has "+query, func() bool { return evaluate[string](b, "location.search") == query })
}

// The keys are a tree, which follows what is written; an opened directory is in the URL.
func TestStateKeys(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.write("app/greeting", "hello")
	a.write("app/db/primary", `{"host":"10.0.0.5","id":12345678901234567890}`)
	a.write("flag", "on")
	b := openTab(t)
	b.open(a.url(""))
	b.click("nav a", "Shared state")
	b.sees("h1", "Shared state")
	b.sees(rows, "app/ 2 keys flag")
	b.click(".table a", "app/")
	b.sees(rows, "▾app/ 2 keys ▸db/ 1 key greeting flag")
	a.write("app/later", "")
	b.sees(rows, "app/ 3 keys")
	b.sees(rows, "greeting later flag")
	b.isAt("?view=state&open=app%2F")
	b.do(reload)
	b.sees(rows, "greeting later flag")
	b.click(".table a", "db/")
	b.click(".table a", "primary")
	b.sees("h1", "app/db/primary")
	b.sees("pre", `"id": 12345678901234567890`)
}

// Who holds locks and claims, who waits, and the limits.
func TestStateHeld(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("gpu", "gpu-1")
	a.answered("gpu", 1)
	lock := a.lock("migration")
	waiting, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		for waiting.Err() == nil { // etcd may be too slow for a request
			_, _ = a.Lock(waiting, "migration", api.LockOptions{Wait: time.Hour}) // it is given up
		}
	}()
	claim := a.claim("gpu")
	a.limit("sms", discovery.Limit{Rate: 50, Burst: 60})
	b := openTab(t)
	b.open(a.url("?view=state"))
	b.sees("main", "No key is written.")
	b.click("main nav a", "Locks")
	b.sees(rows, fmt.Sprintf("migration ● holds 1 host-1 %s", shortID(lock.ID)))
	b.sees(rows, fmt.Sprint(lock.Fence))
	b.sees(rows, "migration waits, next")
	leave()
	<-left
	b.seesNot(rows, "waits")
	b.must(a.Unlock(t.Context(), "migration", lock.ID))
	b.sees("main", "Nobody holds a lock.")
	b.click("main nav a", "Claims")
	b.sees(rows, fmt.Sprintf("gpu gpu-1 0 host-1 %s %d", shortID(claim.ID), claim.Fence))
	b.must(a.ReleaseClaim(t.Context(), claim.ID))
	b.sees("main", "Nothing is claimed.")
	b.click("main nav a", "Limits")
	used := regexp.MustCompile(`^sms (0\.[1-9]|[1-9][\d.]*) each 1s 50 each 1s 60 tokens [1-9][\d,]* nobody denied`)
	retrytest.Succeeds(t, func() error {
		if _, err := a.Take(t.Context(), "sms", 2); err != nil { // a denied one is none
			return err
		}
		if got := strings.TrimSpace(b.text(rows)); !used.MatchString(got) {
			return fmt.Errorf("the limits are %q, want %s", got, used)
		}
		return nil
	})
	b.isAt("?view=state&tab=limits")
}

// shortID is the form of an id that is shown: it can neither renew nor release.
func shortID(id string) string {
	session, random, _ := strings.Cut(id, "-")
	return session + "-" + random[:6]
}

// What anybody can write into etcd is only text, and a key that is none is said to be so.
func TestStatePoisoned(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	const markup = `<img src=x onerror="document.title='poisoned'"><script>document.title='poisoned'</script>`
	keys := []string{markup, "javascript:alert(1)", "dir,%2C/" + markup, "a\u202eb", "ctl\x1b[2J", "../../v1/limits/x", "a//b", "dots/../x", "bad\xff", "--agent=http:evil"}
	client, space := etcdtest.Client(t, etcd.Endpoint()), discovery.NewKeys("default")
	for _, key := range keys {
		if _, err := client.Put(t.Context(), space.KV()+key, markup+"\u202egnp\x1b[2J"); err != nil {
			t.Fatal(err)
		}
	}
	b := openTab(t)
	b.expect(`status of 4`)
	views := []string{"?view=state", "?view=state&q=%3Cimg", "?view=state&dir=%3Cb%3E/", "?view=state&open=%25%25,%3Cb%3E", "?view=state&tab=%3Cb%3E"}
	for _, key := range keys {
		views = append(views, "?view=state&only=history&key="+url.QueryEscape(key))
	}
	for _, view := range views {
		b.open(a.url(view))
		b.sees(freshness, "live")
		b.seesNot("main", "Asking")
		if n := evaluate[int](b, `document.querySelectorAll('body img, body script, b[onerror], a[href^="javascript:"]').length`); n > 0 {
			t.Errorf("%q: a key became %d elements", view, n)
		}
		if title := evaluate[string](b, "document.title"); title == "poisoned" {
			t.Errorf("%q: a key ran", view)
		}
	}
	b.open(a.url("?view=state"))
	b.sees(rows, "▸"+strings.TrimSuffix(markup, "script>")+" 1 key")
	b.sees(rows, `a\u202eb`)
	b.sees(rows, `ctl\u001b[2J`)
	b.click(".table a", "dir,%2C/")
	b.sees(rows, "▾dir,%2C/ 1 key")
	b.click(".table a", "a\\u202eb")
	b.sees("pre", `3c 69 6d 67`)
	b.click("button", "Text")
	b.sees("pre", markup+`\u202egnp\u001b[2J`)
	b.click("button", "Show it")
	b.sees(".versions", "created")
	b.open(a.url("?view=state&key=--agent%3Dhttp:evil"))
	b.sees(".command", "disc kv get -- --agent=http:evil") // no flag, which would send a token there
	b.open(a.url("?view=state&key=a%27b"))
	b.sees(".command", `disc kv get 'a'\''b'`)
	b.open(a.url("?view=state&key=" + url.QueryEscape("../../v1/limits/x")))
	b.sees("main", "No agent reads or writes this key: a part of it is “.” or “..”.")
}

// Several thousand keys in one directory, of which the document has few rows.
func TestStateManyKeys(t *testing.T) {
	const n = 5000
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	client, space := etcdtest.Client(t, etcd.Endpoint()), discovery.NewKeys("default")
	for from := 0; from < n; from += 100 {
		var ops []clientv3.Op
		for k := from; k < from+100; k++ {
			ops = append(ops, clientv3.OpPut(space.KV()+fmt.Sprintf("many/key-%04d", k), "value"))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	b := openTab(t)
	b.open(a.url("?view=state"))
	b.sees(rows, "many/ 5,000 keys")
	b.click(".table a", "many/")
	b.sees(rows, "key-0000")
	b.scrolls("5,000 keys")
	b.sees(rows, "key-4999")
	b.keys("/", "key-42 9")
	b.sees("main h2", "19 of 5,000")
	b.sees(rows, "many/key-4299")
}

// Where not all keys may be read, the page says so, and shows the directory that may be.
func TestStateRefused(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), fmt.Sprintf("tokens: [{name: ops, sha256: %x, scopes: [all]}, {name: app, sha256: %x, scopes: ['kv-read:app/']}]",
		sha256.Sum256([]byte(opsToken)), sha256.Sum256([]byte("app-token"))))
	a.write("app/greeting", "hello")
	a.write("secret", "x")
	b := openTab(t)
	b.expect(`status of (401|403)`)
	b.open(a.url("?view=state"))
	b.sees("main [role=alert]", "kv-read")
	b.replace("main input[name=token]", "app-token")
	b.click("main button", "Use the token")
	b.sees("main", "The token that is given does not suffice.")
	b.sees("main", "Keys of one directory may be shown")
	b.replace("main input[name=dir]", "app")
	b.click("main button", "Show it")
	b.sees(rows, "greeting")
	b.seesNot("main", "does not suffice")
	b.click(".table a", "greeting")
	b.sees("pre", "hello")
	b.click("button", "Show it")
	b.sees(".versions", "created, 5 bytes, as it is now hello")
	b.click("button", "Edit")
	b.replace("dialog textarea", "bye")
	b.click("dialog button", "Change app/greeting")
	b.sees("dialog [role=alert]", "kv:app/greeting")
	b.keeps(a, "app/greeting", "hello")
	b.expect(`status of 400`)
	b.open(a.url("?view=state&dir=app//"))
	b.sees("main [role=alert]", "empty segment")
	b.seesNot("main", "tries again")
	b.replace("main input[name=dir]", "app/")
	b.click("main button", "Show it")
	b.sees("main", "This takes a token.")
	b.replace("main input[name=token]", "app-token")
	b.click("main button", "Use the token")
	b.sees(rows, "greeting")
}

// The view stays as it was while the agent or etcd is away, says so, and comes back by itself. Its
// modules come when it is opened.
func TestStateAway(t *testing.T) {
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a := startAgent(t, link.Endpoint())
	a.write("app/greeting", "hello")
	b := openTab(t)
	b.expect(`net::ERR_|status of 503`)
	const loaded = `performance.getEntriesByType('resource').some((r) => r.name.includes('/view_state.js'))`
	b.open(a.url(""))
	b.sees(freshness, "live")
	if evaluate[bool](b, loaded) {
		t.Error("the modules of shared state come with the first view")
	}
	a.stop()
	b.sees(freshness, "away")
	b.click("nav a", "Shared state")
	b.sees("main [role=alert]", "did not send this view")
	a.start()
	b.click("main button", "Load the page again")
	b.sees(rows, "app/ 1 key")
	if !evaluate[bool](b, loaded) {
		t.Error("the modules of shared state come from elsewhere")
	}
	a.stop()
	b.sees("main [role=alert]", "does not answer. What you see is as of")
	b.sees(rows, "app/ 1 key")
	a.start()
	a.write("app/later", "x")
	b.sees(rows, "app/ 2 keys")
	b.seesNot("main", "What you see is as of")

	b.open(a.url("?view=state&key=app/greeting"))
	b.sees("pre", "hello")
	a.stop()
	b.sees("main [role=alert]", "The page tries again.")
	b.sees("pre", "hello")
	a.start()
	a.write("app/greeting", "again")
	b.sees("pre", "again")
	b.seesNot("main", "tries again")

	lock := a.lock("migration")
	b.open(a.url("?view=state&tab=locks"))
	b.sees(rows, "migration ● holds")
	link.Freeze()
	b.sees("main [role=alert]", "What you see is as of")
	b.sees(rows, shortID(lock.ID))
	link.Mend()
	b.seesNot("main", "What you see is as of")
}
