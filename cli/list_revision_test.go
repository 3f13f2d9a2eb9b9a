package cli

import (
	"strings"
	"testing"

	"disc/agent/api"
)

// The table has the list's revision, which is not known of a service that is not watched. JSON has that
// of each service.
func TestListedRevisions(t *testing.T) {
	t.Parallel()
	all := listed([]api.Service{
		{Service: "db", Total: 1, Revision: 5},
		{Service: "gone", Revision: 6},
		{Service: "web", Unwatched: true},
	}, 9)
	l := serviceListing(all)
	var rows []string
	for _, s := range all {
		rows = append(rows, strings.Join(l.row(s, false), "|"))
	}
	if got, want := strings.Join(rows, "\n"), "db|0|1|-|9\nweb|0|0|-|-"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var out strings.Builder
	if err := l.jsonLines(&out); err != nil || !strings.Contains(out.String(), `"revision":5`) || strings.Contains(out.String(), "9") {
		t.Errorf("%q, %v", out.String(), err)
	}
}
