package browser_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// A key is changed and deleted with a token, and what somebody else has changed meanwhile is not
// overwritten. Each change can be undone.
func TestStateEdit(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint(), withTokens(), "anonymous: [read, kv-read]")
	a.write("app/greeting", "hello\nworld\n")
	b := openTab(t)
	b.expect(`status of (401|412)`)
	b.open(a.url("?view=state&key=app/greeting"))
	b.sees("pre", "hello world")

	b.click("button", "Edit")
	b.sees("dialog", "Nothing will change.")
	b.replace("dialog textarea", "hello there"+kb.Enter+"world"+kb.Enter)
	b.sees("dialog", "- hello + hello there")
	b.sees("dialog", "Its value: 12 bytes → 18.")
	b.click("dialog button", "Change app/greeting")
	b.sees("dialog [role=alert]", "kv:app/greeting")
	b.keeps(a, "app/greeting", "hello\nworld\n")
	b.replace("dialog input[name=token]", opsToken)
	b.click("dialog button", "Use the token")
	b.sees("dialog", "- hello + hello there")

	a.write("app/greeting", "mine\nworld\n") // somebody else is faster
	b.click("dialog button", "Change app/greeting")
	b.sees("dialog [role=alert]", "Somebody else has changed the key")
	b.keeps(a, "app/greeting", "mine\nworld\n")
	b.click("dialog button", "Compare with what it is now")
	b.sees("dialog", "- mine + hello there")
	b.click("dialog button", "Change app/greeting")
	b.sees("main pre", "hello there world")
	b.keeps(a, "app/greeting", "hello there\nworld\n")
	b.click("button", "Undo")
	b.sees("main pre", "mine world")
	b.sees(".notices", "undone")
	b.keeps(a, "app/greeting", "mine\nworld\n")

	b.click("main button", "Delete")
	b.sees("dialog", "The key is deleted, with its 11 bytes.")
	b.click("dialog button", "Delete app/greeting")
	b.sees("main", "It was deleted, or has expired, by revision")
	b.keeps(a, "app/greeting", "")
	b.click("button", "Undo")
	b.seesNot("main", "It was deleted")
	b.sees(".notices", "undone")
	b.keeps(a, "app/greeting", "mine\nworld\n")

	// An undo does not overwrite what somebody else has written since.
	b.click("main button", "Delete")
	b.click("dialog button", "Delete app/greeting")
	b.sees("main", "It was deleted")
	a.write("app/greeting", "theirs")
	b.sees("main pre", "theirs")
	b.click("button", "Undo")
	b.sees(".notices", "the change was not undone: somebody else has changed the key since.")
	b.keeps(a, "app/greeting", "theirs")

	b.open(a.url("?view=state"))
	b.click("button", "New key")
	b.sees("dialog", "That is no key: it is empty.")
	b.replace("dialog input[name=key]", "app//x")
	b.sees("dialog", "an empty part")
	b.replace("dialog input[name=key]", "made")
	b.sees("dialog", "The key is made, with 0 bytes.")
	b.replace("dialog textarea", "new")
	b.replace("dialog input[name=ttl]", "10m")
	b.sees("dialog", "It is deleted 10m after it is written.")
	b.click("dialog button", "Write made")
	b.sees("dialog [role=alert]", "kv:made") // the page was loaded again, and kept no token
	b.replace("dialog input[name=token]", opsToken)
	b.click("dialog button", "Use the token")
	b.click("dialog button", "Write made")
	b.sees(rows, "made")
	b.keeps(a, "made", "new")
	b.click(".table a", "made")
	b.sees("main", "Expires yes")
	b.click("main button", "Edit")
	b.replace("dialog textarea", "newer")
	b.sees("dialog", "It does not expire any more.")
}

// keeps waits until etcd has a value of a key; "": the key is not there.
func (b *tab) keeps(a *agent, key, want string) {
	b.t.Helper()
	retrytest.Succeeds(b.t, func() error {
		item, _, err := a.KVGet(b.t.Context(), key, api.KVRead{Linearizable: true})
		switch {
		case want == "" && errors.Is(err, discovery.ErrNotFound):
			return nil
		case err == nil && string(item.Value) != want:
			return fmt.Errorf("key %s is %q, want %q", key, item.Value, want)
		}
		return err
	})
}

// What a key was is shown, and can be written again.
func TestStateHistory(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	first := a.write("color", "red")
	for n := range 12 {
		a.write("color", fmt.Sprintf("blue-%d", n))
	}
	b := openTab(t)
	b.open(a.url("?view=state&key=color"))
	b.sees("main pre", "blue-11")
	b.click("button", "Show it")
	b.sees(".versions", "changed, 7 bytes, as it is now blue-11")
	b.seesNot(".versions", "red")
	b.click("button", "Earlier ones")
	b.sees(".versions", fmt.Sprintf("%d created, 3 bytes red", first))
	b.sees(".versions", "as it is now blue-11") // the later ones stay
	b.sees("main", "Nothing earlier was found.")
	b.click("summary", fmt.Sprintf("%d created", first))
	b.click("details[open] button", "Write it again")
	b.sees("dialog", "- blue-11 + red")
	b.click("dialog button", "Change color")
	b.keeps(a, "color", "red")
	b.sees(".versions", "changed, 3 bytes, as it is now red")
	b.isAt("?view=state&only=history&key=color")
	b.do(reload)
	b.sees(".versions", "as it is now red")
}

// A value is text, JSON or hex, as the reader likes; what is no text is edited in hex.
func TestStateForms(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.write("json", `{"n":1.10,"list":[]}`)
	a.write("binary", "\x00\xff\x01\r\n")
	a.write("large", strings.Repeat("0123456789abcde\n", 20_000))
	b := openTab(t)
	b.open(a.url("?view=state&key=json"))
	b.sees("pre", `{ "n": 1.10, "list": [] }`)
	b.click("button", "Text")
	b.sees("pre", `{"n":1.10,"list":[]}`)
	b.click("button", "Hex")
	b.sees("pre", `00000000 7b 22 6e 22 3a 31 2e 31`)
	b.isAt("?view=state&key=json&as=hex")
	b.open(a.url("?view=state&key=binary"))
	b.sees("pre", `00000000 00 ff 01 0d 0a .....`)
	b.click("button", "Edit")
	b.replace("dialog textarea", "00 fe 0")
	b.sees("dialog", "That is not hex")
	b.replace("dialog textarea", "00fe 0A")
	b.sees("dialog", "Its value: 5 bytes → 3.")
	b.click("dialog button", "Change binary")
	b.keeps(a, "binary", "\x00\xfe\n")
	b.open(a.url("?view=state&key=large"))
	b.sees("main", "This is the beginning of it.")
	b.click("button", "Show all 320,000 bytes")
	retrytest.Eventually(t, "all of it", func() bool {
		return evaluate[int](b, "document.querySelector('pre.value').textContent.length") == 320_000
	})
}
