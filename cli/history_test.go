package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// The history of an agent, with hostile texts and without a place for what came before.
func TestHistoryShown(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	h := api.History{
		Begins: &discovery.ChangeStart{Revision: 7, Seen: noon, Dropped: true}, Truncated: true,
		Changes: []discovery.Change{{
			Revision: 9, Seen: noon, Service: "web", ID: "web-1", Change: discovery.ChangeChanged, Listed: true, Cut: true,
			Why: "check \x1b[31mred\x1b[0m\nis critical", Fields: []discovery.FieldChange{{Field: "zone", From: "", To: "a\x07"}, {Field: "run", From: "1", To: "2"}},
		}, {Revision: 10, Seen: noon, Change: discovery.ChangeGap, Since: &noon, Why: "cut off"}},
	}
	term := newTerminal(t)
	term.answering(map[string]string{"/v1/history": string(etcdtest.Must(json.Marshal(h)))}, nil, nil)
	r := term.disc("history", "web")
	if r.code != exitDone || strings.ContainsAny(r.out+r.stderr, "\x1b\x07") {
		t.Fatalf("exit code %d: %q, %q", r.code, r.out, r.stderr)
	}
	seen := seenAt(noon)
	for _, want := range []string{
		"9         " + seen + "  web/web-1  changed*  zone - → a\ufffd, …  check \ufffd[31mred\ufffd[0m\ufffdis critical\n",
		"gap       -               cut off; it had all changes until " + seen + "\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("printed\n%s\nwant %q", r.out, want)
		}
	}
	for _, want := range []string{"begins at revision 7, " + seen + "; there was no room", "there are changes before these", "does not watch web now"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("said\n%s\nwant %q", r.stderr, want)
		}
	}
	if r = term.disc("history", "web", "-o", "wide"); !strings.Contains(r.out, "run 1 → 2") {
		t.Errorf("-o wide printed\n%s", r.out)
	}
	if r = term.disc("history", "web", "-o", "json"); r.stderr != "" || !strings.Contains(r.out, `"dropped": true`) || strings.Contains(r.out, "\x1b") {
		t.Errorf("-o json printed %q, %q", r.out, r.stderr)
	}
}

func TestPastTime(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "10m": "10m", "2026-01-31T13:00:00+01:00": "2026-01-31T12:00:00Z",
		"2026-01-31 12:00:00": time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local).UTC().Format(time.RFC3339),
		"-10m":                "!", "noon": "!", "12": "!",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := pastTime(text)
			if (err != nil) != (want == "!") || err == nil && got != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
}
