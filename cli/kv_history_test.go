package cli

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
)

// written runs a command that writes, and returns the revision that it prints.
func (term *terminal) written(args ...string) int64 {
	term.t.Helper()
	out := term.ok(args...)
	m := regexp.MustCompile(`\(revision (\d+)\)\n$`).FindStringSubmatch(out)
	if m == nil {
		term.t.Fatalf("disc %s: %q has no revision", strings.Join(args, " "), out)
	}
	revision, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		term.t.Fatal(err)
	}
	return revision
}

func rev(revision int64) string { return strconv.FormatInt(revision, 10) }

// relative replaces revisions by their distance from the first.
func relative(text string, first int64) string {
	return regexp.MustCompile(`(?m)^\d+`).ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.ParseInt(s, 10, 64)
		return "+" + rev(n-first)
	})
}

func TestKeyHistory(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	first := term.written("kv", "set", "app/a", "1")
	term.stdin = "\x1b[2J\tsteers\n"
	term.ok("kv", "set", "app/a", "-")
	term.stdin = "\x00\xff"
	term.ok("kv", "set", "app/a", "-")
	gone := term.written("kv", "del", "app/a")
	term.ok("kv", "set", "app/a", "with a TTL", "--ttl", "1h")
	term.ok("kv", "set", "app/a", "")
	term.env["DISC_AGENT"] = startAgent(t, term.env["DISC_ENDPOINTS"], "", t.TempDir()).url // it writes, too
	for _, from := range []string{"etcd", "agent"} {
		if from == "agent" {
			term.env["DISC_ENDPOINTS"] = "127.0.0.1:1"
		}
		const want = "REVISION  CHANGE   EXPIRES  BYTES  VALUE\n" +
			"+5        written  -        0      -\n" +
			"+4        created  yes      10     with a TTL\n" +
			"+3        deleted  -        -      -\n" +
			"+2        written  -        2      (binary)\n" +
			"+1        written  -        12     \ufffd[2J\ufffdsteers\n" +
			"+0        created  -        1      1\n"
		got := relative(term.ok("kv", "history", "app/a"), first)
		spaces := regexp.MustCompile(` +`) // the columns are as wide as the revisions
		if spaces.ReplaceAllString(got, " ") != spaces.ReplaceAllString(want, " ") {
			t.Errorf("%s: got\n%swant\n%s", from, got, want)
		}
		var h api.KVHistory
		if err := json.Unmarshal([]byte(term.ok("kv", "history", "app/a", "-o", "json")), &h); err != nil || h.Key != "app/a" || h.Older != api.KVOlderNone || len(h.Versions) != 6 || h.Versions[5].Revision != first {
			t.Errorf("%s: %+v, %v", from, h, err)
		}
		if got := term.ok("kv", "history", "app/a", "--rev", rev(gone), "--max", "2", "-o", "name"); got != rev(gone)+"\n"+rev(gone-1)+"\n" {
			t.Errorf("%s: %q", from, got)
		}
		term.fails(exitDone, "there are older versions: 'disc kv history app/a --rev "+rev(gone-2)+"'", "kv", "history", "app/a", "--rev", rev(gone), "--max", "2")
		if got := term.ok("kv", "get", "app/a", "--rev", rev(gone-1)); got != "\x00\xff" {
			t.Errorf("%s: %q", from, got)
		}
		term.fails(exitNotFound, `key "app/a" was not there at revision `+rev(gone), "kv", "get", "app/a", "--rev", rev(gone))
		term.fails(exitUsage, "etcd is at revision", "kv", "get", "app/a", "--rev", "999999")
		term.fails(exitUsage, "etcd is at revision", "kv", "history", "app/a", "--rev", "999999")
		term.fails(exitNotFound, "no earlier version was found", "kv", "history", "app/none")
		term.fails(exitUsage, "use 1 to 100", "kv", "history", "app/a", "--max", "101")
		term.fails(exitUsage, "revision", "kv", "get", "app/a", "--rev", "0")
		term.fails(exitUsage, "revision", "kv", "history", "app/a", "--rev", "0")
	}
}

func TestCompactedHistory(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	first := term.written("kv", "set", "app/a", "1")
	second := term.written("kv", "set", "app/a", "2")
	if _, err := etcdtest.Client(t, term.env["DISC_ENDPOINTS"]).Compact(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	r := term.disc("kv", "history", "app/a", "-o", "jsonl")
	if !strings.HasPrefix(r.out, `{"revision":`+rev(second)+`,"value":"Mg=="`) || strings.Count(r.out, "\n") != 1 || !strings.Contains(r.stderr, "older versions are compacted: etcd keeps them for as long as its --auto-compaction-retention says") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"get"}, {"history"}, {"rollback"}} {
		term.fails(exitNotFound, "etcd has compacted this revision; it keeps old ones for as long as its --auto-compaction-retention says", "kv", args[0], "app/a", "--rev", rev(first))
	}
}

func TestRollbackOfKey(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	first := term.written("kv", "set", "app/a", "1", "--ttl", "1h")
	second := term.written("kv", "set", "app/a", "2")
	r := term.disc("kv", "rollback", "app/a", "--rev", rev(first))
	if want := "app/a: rolled back to revision " + rev(first) + ", in place of revision " + rev(second) + " (revision " + rev(second+1) + ")\n"; r.out != want {
		t.Errorf("%+v, want %s", r, want)
	}
	if want := "the value of revision " + rev(first) + " had a TTL; it is written without one"; !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "ends") {
		t.Errorf("%q, want %s", r.stderr, want)
	}
	if got := term.ok("kv", "get", "app/a", "-o", "json"); !strings.Contains(got, `"value": "MQ=="`) || strings.Contains(got, "expires") {
		t.Errorf("%s", got)
	}
	third := term.written("kv", "rollback", "app/a", "--rev", rev(second), "--ttl", "1h")
	if got := term.ok("kv", "list", "-o", "template={{.value}} {{.expires}}"); got != "Mg== true\n" {
		t.Errorf("%q", got)
	}
	r = term.disc("kv", "rollback", "app/a", "--rev", rev(second), "-o", "json")
	if want := "the TTL that the key had at revision " + rev(third) + " ends"; r.code != exitDone || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "without one") {
		t.Errorf("%+v, want %s", r, want)
	}
	var done kvRollbackResult
	if err := json.Unmarshal([]byte(r.out), &done); err != nil || done != (kvRollbackResult{"app/a", third + 1, second, third}) {
		t.Errorf("%s: %+v, %v", r.out, done, err)
	}
	gone := term.written("kv", "del", "app/a")
	term.fails(exitNotFound, "so there is no value to write; to delete the key, use 'disc kv del app/a'", "kv", "rollback", "app/a", "--rev", rev(gone))
	term.fails(exitConflict, "nothing was written", "kv", "rollback", "app/a", "--rev", rev(second), "--if-revision", rev(third))
	term.fails(exitUsage, "--rev is missing", "kv", "rollback", "app/a")
	term.fails(exitUsage, "not a revision", "kv", "rollback", "app/a", "--rev", "0")
	term.fails(exitUsage, "ttl 1ms", "kv", "rollback", "app/a", "--rev", rev(second), "--ttl", "1ms")
	term.fails(exitUsage, "did you mean 'disc kv rollback'?", "kv", "revert", "app/a")
	if got, want := term.ok("kv", "rollback", "app/a", "--rev", rev(second)), "app/a: rolled back to revision "+rev(second)+", after its deletion (revision "+rev(gone+1)+")\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := term.ok("kv", "get", "app/a"); got != "2" {
		t.Errorf("%q", got)
	}
}
