package cli

import (
	"strings"
	"testing"
)

func TestSuspectsRefused(t *testing.T) {
	term := newTerminal(t)
	for _, tt := range []struct {
		line string
		code int
		want string
	}{
		{"suspects drop a/b/c", exitUsage, "instance id"},
		{"suspects list -x", exitUsage, "unknown shorthand flag"},
		{"suspects keep -- -web", exitUsage, "begin with a letter or digit"},
		{"suspects eat", exitUsage, "unknown command"},
		{"suspects list", exitFailed, "agent at"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			r := term.disc(strings.Fields(tt.line)...)
			if r.code != tt.code || !strings.Contains(r.stderr, tt.want) || r.out != "" {
				t.Errorf("got exit code %d, stdout %q, stderr:\n%swant %d and %q", r.code, r.out, r.stderr, tt.code, tt.want)
			}
		})
	}
}

// A single suspect is ordered without a look only if the agent cannot be reached.
func TestSuspectOrderUnverified(t *testing.T) {
	t.Parallel()
	term := atEtcd(t)
	term.put(namespace+"level/state", `{"level":2}`)
	if out := term.ok("suspects", "drop", "web/web-1"); !strings.Contains(out, "1 suspect; unverified") {
		t.Errorf("printed %q", out)
	}
	term.answering(nil, nil, nil)
	term.fails(exitFailed, "503", "suspects", "drop", "web/web-2")
	if term.has("services/web/suspects/web-2") {
		t.Error("the order is written")
	}
}
