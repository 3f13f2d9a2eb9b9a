package cli

import (
	"strings"
	"testing"
)

// A terminal gets only text, with a newline; anything else gets the exact bytes.
func TestValueOnATerminal(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	for key, value := range map[string]string{"text": "good\tmorning", "line": "a\n", "steers": "\x1b[2J", "bytes": "\x00\xff", "empty": ""} {
		term.stdin = value
		term.ok("kv", "set", key, "-")
		term.screen = false
		if got := term.ok("kv", "get", key); got != value {
			t.Errorf("%s: a pipe gets %q, want %q", key, got, value)
		}
		term.screen = true
		switch key {
		case "steers", "bytes":
			term.fails(exitUsage, "is not text, and stdout is a terminal", "kv", "get", key)
		case "text":
			value += "\n"
			fallthrough
		default:
			if got := term.ok("kv", "get", key); got != value {
				t.Errorf("%s: a terminal gets %q, want %q", key, got, value)
			}
		}
	}
}

// Without etcd, the changes come from this host's agent.
func TestWatchOfKeysFromTheAgent(t *testing.T) {
	t.Parallel()
	term := atAgent(t)
	term.ok("kv", "set", "app/a", "1")
	etcd := term.env["DISC_ENDPOINTS"]
	term.env["DISC_ENDPOINTS"] = "127.0.0.1:1"
	lines, events := term.start("kv", "watch", "app/"), term.start("kv", "watch", "app/a", "-o", "jsonl")
	for _, w := range []*background{lines, events} {
		w.says("asking this host's agent instead")
	}
	lines.says(", with 1 key\n")
	events.prints(`"event":"reset"`)
	term.env["DISC_ENDPOINTS"] = etcd
	term.ok("kv", "set", "app/a", "2")
	term.ok("kv", "del", "-r", "app/")
	lines.prints("put     app/a  2")
	lines.prints("delete  app/a")
	events.prints(`"event":"delete"`)
	lines.interrupt()
	if code := lines.ends(); code != exitDone {
		t.Errorf("ends with %d", code)
	}
	term.env["DISC_AGENT"], term.env["DISC_ENDPOINTS"] = "http://127.0.0.1:1", "127.0.0.1:1"
	term.fails(exitFailed, "etcd at 127.0.0.1:1 cannot be reached", "kv", "watch")
	term.fails(exitUsage, "empty segment", "kv", "watch", "a//")
}

func TestDeleteKeysBelow(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	for _, key := range []string{"app/a", "app/b/c", "apple"} {
		term.ok("kv", "set", key, "1")
	}
	if got := term.ok("kv", "del", "-r", "app/"); !strings.HasPrefix(got, "app/: 2 keys deleted (revision ") {
		t.Errorf("got %q", got)
	}
	if got := term.ok("kv", "list", "-o", "name"); got != "apple\n" {
		t.Errorf("left: %q", got)
	}
	term.fails(exitNotFound, `no keys below "app/"`, "kv", "del", "-r", "app/")
	term.fails(exitUsage, "the prefix is empty", "kv", "del", "-r", "")
	term.fails(exitUsage, "empty", "kv", "del", "-r", "/")
	term.fails(exitUsage, "does not end in", "kv", "del", "-r", "apple")
	term.fails(exitUsage, "is a prefix", "kv", "del", "app/")
	term.fails(exitUsage, "if-revision", "kv", "del", "-r", "app/", "--if-revision", "3")
	term.fails(exitUsage, "did you mean 'disc kv del'?", "kv", "rm", "apple")
	if r := term.disc("kv", "list", "app/"); r.code != exitDone || !strings.Contains(r.stderr, `no keys below "app/"`) {
		t.Errorf("%+v", r)
	}
}

// A write beyond the bounds of key/value is refused, with what to do; deletions are not.
func TestFullKeyValue(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.env["DISC_KV_MAX_KEYS"], term.env["DISC_KV_MAX_BYTES"] = "0", "0"
	term.ok("kv", "set", "a", "1")
	term.ok("kv", "set", "b", "1")
	term.env["DISC_KV_MAX_KEYS"] = "2"
	term.fails(exitFailed, `disc: write key "c": key/value has 2 keys, and kv.max_keys is 2: delete what is not needed`, "kv", "set", "c", "1")
	term.ok("kv", "del", "a")
	term.ok("kv", "del", "b")
}
