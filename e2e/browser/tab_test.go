package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// tab is a tab of a browser. What the page complains about fails the test when it ends: errors and
// warnings on the console, exceptions, and violations of the Content-Security-Policy.
type tab struct {
	t   *testing.T
	ctx context.Context

	lock       sync.Mutex
	complaints []string
	expected   []*regexp.Regexp // complaints that the test brings about
}

// quick are the tests that a newcomer's 'go test ./...' has time for.
var quick = []string{"TestKilledInstanceVanishes", "TestDrainAndUndo"}

// openTab starts a browser with one tab. The test is skipped where there is no Chromium.
func openTab(t *testing.T) *tab {
	t.Helper()
	if !slices.Contains(quick, t.Name()) {
		etcdtest.SkipUnlessLong(t, "all tests in a browser take minutes")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: apt-get install chromium")
	}
	// What a browser keeps beside its profile is in its home.
	home, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("lang", "en"),
		chromedp.Flag("disable-ipc-flooding-protection", false), // readers have it
		chromedp.Env("HOME="+home, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME="))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(func() {
		cancel()
		retrytest.Eventually(t, "all processes of the browser have ended", func() bool { return len(etcdtest.Processes(home)) == 0 })
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	b := &tab{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		b.noComplaints()
		_ = chromedp.Cancel(b.ctx) // it is killed otherwise
		cancel()
	})
	b.must(chromedp.Listen(b.ctx, b.hear))
	_, err = chromedp.Call(b.ctx, log.Enable, cdp.Empty{})
	b.must(err)
	b.size(1440, 900)
	return b
}

// hear notes what the page complains about. It must be fast.
func (b *tab) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			var parts []string
			for _, a := range e.Args {
				parts = append(parts, string(a.Value)+a.Description)
			}
			b.complain("console: " + strings.Join(parts, " "))
		}
	case *runtime.EventExceptionThrown:
		b.complain((&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			b.complain(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (b *tab) complain(what string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.complaints = append(b.complaints, what)
}

// expect lets complaints pass: a browser notes each request that fails.
func (b *tab) expect(pattern string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.expected = append(b.expected, regexp.MustCompile(pattern))
}

func (b *tab) noComplaints() {
	b.lock.Lock()
	complaints, expected := b.complaints, b.expected
	b.lock.Unlock()
	for _, c := range complaints {
		if !slices.ContainsFunc(expected, func(r *regexp.Regexp) bool { return r.MatchString(c) }) && !hasPassed(c) {
			b.t.Errorf("the page complains: %s", c)
		}
	}
}

// hasPassed reports whether a complaint is of an answer 503, and there is another by now: etcd was slow.
func hasPassed(complaint string) bool {
	_, url, ok := strings.Cut(complaint, "status of 503 (Service Unavailable) ")
	if !ok {
		return false
	}
	answer, err := http.Get(url)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode != http.StatusServiceUnavailable && answer.StatusCode != http.StatusMethodNotAllowed
}

func (b *tab) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	b.must(chromedp.Do(b.ctx, steps...))
}

// open loads a page.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

func (b *tab) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// scheme chooses "light" or "dark".
func (b *tab) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	b.must(err)
}

// evaluate returns the value of an expression of JavaScript.
func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// text returns what the page shows, in one line; of a place that a selector names.
func (b *tab) text(selector string) string {
	b.t.Helper()
	text, err := b.read(selector)
	b.must(err)
	return text
}

// read is text. It fails where the page is left meanwhile for another, as after a click.
func (b *tab) read(selector string) (string, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf(`(document.querySelector(%s)?.innerText ?? '').replace(/\s+/g, ' ')`, quote(selector))))
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can be encoded
	}
	return string(b)
}

// sees waits until a place has a text.
func (b *tab) sees(selector, text string) {
	b.t.Helper()
	retrytest.Succeeds(b.t, func() error {
		got, err := b.read(selector)
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("%s lacks %q:\n%s", selector, text, got)
		}
		return err
	})
}

// seesNot waits until a place lacks a text.
func (b *tab) seesNot(selector, text string) {
	b.t.Helper()
	retrytest.Succeeds(b.t, func() error {
		got, err := b.read(selector)
		if err == nil && strings.Contains(got, text) {
			err = fmt.Errorf("%s still has %q:\n%s", selector, text, got)
		}
		return err
	})
}

// click clicks the only element of a kind, such as "button" or "a", whose name for a screen reader
// or text begins so, once it is there and nothing covers it. It looks and clicks at once: what the page
// shows may move at any time.
func (b *tab) click(kind, name string) {
	b.t.Helper()
	click := fmt.Sprintf(`(() => {
		const found = [...document.querySelectorAll(%s)].filter((e) => (e.getAttribute('aria-label') ?? e.innerText).trim().startsWith(%s) && !e.disabled)
		if (found.length !== 1) return found.length + ' are there'
		const e = found[0]
		e.scrollIntoView({block: 'center'})
		const r = e.getBoundingClientRect()
		if (!e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2))) return 'it is covered'
		e.focus({preventScroll: true})
		e.click()
		return ''
	})()`, quote(kind), quote(name))
	retrytest.Succeeds(b.t, func() error {
		if why := evaluate[string](b, click); why != "" {
			return fmt.Errorf("%s %q is not clicked: %s", kind, name, why)
		}
		return nil
	})
}

// keys presses keys, one after the other, as a keyboard does: what the page keeps from being typed
// is not typed.
func (b *tab) keys(keys ...string) {
	b.t.Helper()
	for _, k := range strings.Join(keys, "") {
		for _, event := range kb.Encode(k) {
			switch event.Type {
			case kb.KeyChar: // the key itself types it
				continue
			case kb.KeyDown:
				if unicode.IsPrint(k) && !unicode.IsMark(k) {
					event.Text = string(k)
				}
				if string(k) == kb.Enter {
					event.Text = "\r"
				}
			}
			_, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, *event)
			b.must(err)
		}
	}
}
