package cli

import (
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// The status says who holds the feature level back, and whether this agent is behind it.
func TestLevelRows(t *testing.T) {
	t.Parallel()
	seen := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		level api.Level
		want  []string
	}{
		"raised":             {api.Level{Own: 2, Namespace: 2}, []string{"level|2|this agent reads 2"}},
		"not known":          {api.Level{Own: 2}, []string{"level|unknown|this agent reads 2"}},
		"an agent of 0.1.0":  {api.Level{}, []string{"level|1|this agent does not say which level it reads: it is of version 0.1.0"}},
		"this one is behind": {api.Level{Own: 2, Namespace: 3}, []string{"level|3|this agent reads 2; upgrade it: it can misread what others write"}},
		"rising": {api.Level{Own: 2, Namespace: 1, Target: 2, RaisedWithin: discovery.Duration(time.Hour)},
			[]string{"level|1|this agent reads 2; the namespace rises within 1h if no older agent is seen"}},
		"held back": {api.Level{Own: 2, Namespace: 1, Target: 2, RaisedWithin: discovery.Duration(time.Hour), More: 3,
			Behind: []discovery.BehindAgent{{Node: "n\x1b[31m", Agent: "a", Version: "dev", Level: 1, Seen: seen}}},
			[]string{"level|1|this agent reads 2; the namespace rises to 2 a day after the last older agent was seen",
				"||agent a on node n\ufffd[31m, version dev, reads level 1; last seen 2026-01-02T03:04:05Z", "||and 3 more agents"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, row := range append([][]string{levelRow(c.level)}, behindRows(c.level)...) {
				got = append(got, strings.Join(row, "|"))
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
