package browser_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// A reader who leaves the page and is back before the page has noticed sees what comes.
func TestReaderComesBack(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	evaluate[chromedp.Void](b, `dispatchEvent(new PageTransitionEvent('pagehide')), dispatchEvent(new PageTransitionEvent('pageshow')), undefined`)
	a.register("web", "web-2")
	b.sees(rows, "web 2 of 2")
}

// A page that opens where nobody looks, as in a tab behind, takes the answers that the browser has asked
// for with it. They would be old when a reader comes.
func TestOpenedBehind(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.knowsItself()
	b := openTab(t)
	b.before(`{
		Object.defineProperty(Document.prototype, 'hidden', {get: () => true})
		const real = setTimeout
		window.setTimeout = (f, ms, ...more) => real(f, ms === 30_000 ? 1e9 : ms, ...more) // it follows the changes until they have come
	}`)
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	b.sees(freshness, "host-1")
	b.sees(".totals", "1 node")
}

// before runs a script before those of the pages that are opened from now on.
func (b *tab) before(script string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	b.must(err)
}

// An answer that fails is asked for again, though nothing changes meanwhile.
func TestExplanationIsAskedForAgain(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "web")
	evaluate[chromedp.Void](b, `(() => {
		const real = fetch
		let fails = 2
		window.fetch = (path, options) => String(path).includes('explain') && fails-- > 0 ? Promise.reject(new TypeError('away')) : real(path, options)
	})()`)
	b.click(".table a", "web")
	b.sees(rows, "web-1 ● passing in")
}

// An answer that breaks off is asked for again, as one that fails.
func TestAnswersBreakOff(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	var breaks sync.Map
	for _, path := range []string{"/v1/nodes", "/v1/history", "/v1/services/web", "/v1/kv"} {
		breaks.Store(path, true)
	}
	at := proxyTo(t, a, func(w http.ResponseWriter, r *http.Request) bool {
		if _, now := breaks.LoadAndDelete(r.URL.Path); !now {
			return false
		}
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "[")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	b := openTab(t)
	b.expect("net::ERR_")
	b.open(at)
	b.sees(rows, "web 1 of 1")
	b.sees(".totals", "1 node")
	b.click(".table a", "web")
	b.sees(rows, "web-1 ● passing in")
	b.click("nav a", "Shared state")
	b.sees("main", "No key is written.")
	retrytest.Eventually(t, "each has broken off", func() bool {
		n := 0
		breaks.Range(func(any, any) bool { n++; return true })
		return n == 0
	})
}

// However long an answer takes, the page asks again within half a minute.
func TestAsksAgainAfterASlowAnswer(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.before(`{
		const [now, ask, timer] = [Date.now, fetch, setTimeout]
		let late = 0
		Date.now = () => now() + late
		window.fetch = async (path, options) => {
			const answer = await ask(path, options)
			if (/\/why$|format=text/.test(path)) late += 60_000
			return answer
		}
		window.waits = []
		window.setTimeout = (f, ms, ...more) => {
			waits.push(ms)
			return timer(f, ms, ...more)
		}
	}`)
	for query, shows := range map[string]string{"?service=web&instance=web-1": "answered: its status is passing", "?view=try&name=web": "Answered in 7 of 7 forms."} {
		b.open(a.url(query))
		b.sees("main", shows)
		retrytest.Eventually(t, "the page waits before it asks again", func() bool { return evaluate[bool](b, "waits.some((ms) => ms > 20_000 && ms <= 30_000)") })
		if longest := evaluate[float64](b, "Math.max(...waits.filter((ms) => ms > 0))"); longest > 40_000 { // for a sign of life
			t.Errorf("%s: the page waits for %.0f s", query, longest/1000)
		}
	}
}

// A key of the search that is held down makes more addresses than a browser takes.
func TestHeldKey(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("db", "db-1")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "db")
	evaluate[chromedp.Void](b, `(() => {
		const search = document.querySelector('input[type=search]')
		const type = (text) => { search.value = text; search.dispatchEvent(new InputEvent('input', {bubbles: true})) }
		for (let n = 1; n <= 1000; n++) type('x'.repeat(n))
		type('web')
	})()`)
	b.sees(rows, "web 1 of 1")
	b.seesNot(rows, "db")
	retrytest.Eventually(t, "the search is in the address", func() bool { return evaluate[string](b, "location.search") == "?q=web" })
	b.click(".table a", "web")
	b.sees("h1", "web")
	b.do(chromedp.NavigateBack())
	b.sees("h1", "Now")
	if q := evaluate[string](b, "document.querySelector('input[type=search]').value + location.search"); q != "web?q=web" {
		t.Errorf("back, the search is %q", q)
	}
}

// What others change while a reader looks at the dialog is in what it says.
func TestChangedMeanwhile(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.register("web", "web-2")
	b := openTab(t)
	b.open(a.url("?service=web"))
	b.click("button", "Drain web-1")
	b.sees("dialog", "Lookups of web find 1 instance in place of 2.")
	a.override("web", "web-1", `{"state":"drain","weight":3}`)
	b.sees("dialog", "Nothing will change.")
	b.replace("dialog input[name=weight]", "5")
	b.sees("dialog", "Its weight: 3 → 5.")
	_, err := a.Deregister(t.Context(), "web", "web-1")
	b.must(err)
	b.sees("dialog", "It is gone: nothing can be changed.")
}

// A certificate that expires soon is said on Now.
func TestCertificateExpiresSoon(t *testing.T) {
	etcd := etcdtest.Start(t)
	secure, file := withTLS(t, etcd.Endpoint(), time.Now().Add(60*time.Hour))
	t.Setenv("DISC_CACERT", file)
	a := startAgent(t, "https://"+secure)
	b := openTab(t)
	b.open(a.url(""))
	b.sees(".troubles", "agent host-1 the certificate of etcd.cacert expires in 2 d 11 h")
	retrytest.Succeeds(t, func() error { // an agent that has just begun has no session
		if kinds := evaluate[string](b, "[...document.querySelectorAll('.troubles li')].map((e) => e.className).join()"); kinds != "warning" {
			return fmt.Errorf("the problems are %q", kinds)
		}
		return nil
	})
}

// withTLS serves an etcd over TLS, with a certificate that is its own CA. It returns the address, and the
// file of the certificate.
func withTLS(t *testing.T, etcd string, expires time.Time) (address, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: expires.Add(-24 * 365 * time.Hour), NotAfter: expires,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	forwardAll(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}}), "tcp", strings.TrimPrefix(etcd, "http://"))
	return l.Addr().String(), file
}

// An agent that is stuck is noticed by its silence. The page says as of when it shows the fleet, which is
// before that.
func TestAgentIsStuck(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	// The next sign of life is waited for as long as the agent is silent below, and not for 40 s.
	evaluate[chromedp.Void](b, `(() => {
		const real = setTimeout
		window.setTimeout = (f, ms, ...more) => real(f, ms === 40_000 ? 4_000 : ms, ...more)
	})()`)
	a.register("web", "web-2")
	b.sees(rows, "web 2 of 2")
	b.must(a.command.Process.Signal(syscall.SIGSTOP))
	stopped := evaluate[float64](b, "Date.now()")
	var at string
	retrytest.Eventually(t, "the page says as of when it shows the fleet", func() bool {
		at = evaluate[string](b, `document.querySelector('[aria-label=Connection]').innerText.match(/What you see is as of ([0-9:]+)/)?.[1] ?? ''`)
		return at != ""
	})
	b.sees(rows, "web 2 of 2")
	if latest := evaluate[string](b, fmt.Sprintf("new Date(%f + 1000).toLocaleTimeString('en-GB')", stopped)); at > latest && latest > "00:01" {
		t.Errorf("the page says that it shows the fleet as of %s, and the agent was stopped before %s", at, latest)
	}
	b.must(a.command.Process.Signal(syscall.SIGCONT))
	b.sees(freshness, "live")
	b.seesNot(banners, "as of")
}

// The nodes are read anew when the agent is back, and not only at their next turn.
func TestNodesAfterARestart(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.knowsItself()
	b := openTab(t)
	b.expect("net::ERR_|status of 503")
	b.before(`{
		const real = setTimeout
		window.setTimeout = (f, ms, ...more) => real(f, ms >= 10_000 && ms <= 30_000 ? 1e9 : ms, ...more) // their next turn does not come
	}`)
	b.open(a.url("?view=nodes"))
	b.sees(rows, "host-1")
	a.stop()
	b.sees(freshness, "away")
	// The record is in etcd before the agent reads. A second agent would write it some time after it answers.
	// The view that this one may have saved lacks it.
	if err := os.Remove(filepath.Join(a.dir, "data", "last-good")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	_, err := etcdtest.Client(t, etcd.Endpoint()).Put(t.Context(), discovery.NewKeys("default").Node("host-2", "owner"), `{"node":"host-2","agent":"owner"}`)
	b.must(err)
	a.start()
	b.sees(freshness, "live")
	b.sees(rows, "host-2")
}

// An agent that comes back with another namespace shows that one alone, and the page says so.
func TestNamespaceChanges(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	b := openTab(t)
	b.expect("net::ERR_|status of 503")
	b.open(a.url(""))
	b.sees(rows, "web 1 of 1")
	b.sees(freshness, "host-1") // it has heard of the agent's namespace
	a.stop()
	b.sees(freshness, "away")
	file := filepath.Join(a.dir, "config.yaml")
	config, err := os.ReadFile(file)
	b.must(err)
	b.must(os.WriteFile(file, append(config, "namespace: other\n"...), 0o600))
	b.must(os.RemoveAll(filepath.Join(a.dir, "data")))
	a.start()
	a.register("db", "db-1")
	b.sees(rows, "db 1 of 1")
	b.seesNot(rows, "web")
	b.sees(banners, "The agent shows namespace other now; it was default when this page was opened.")
}
