package check

import (
	"strings"
	"testing"

	"disc/discovery"
)

func TestThresholds(t *testing.T) {
	for _, test := range []struct {
		name             string
		success, failure int
		results, want    string // p, w, c; - is unknown
	}{
		{"first pass decides", 1, 2, "p", "p"},
		{"one failure leaves it unknown", 1, 2, "ccp", "-cp"},
		{"a failure then a pass", 1, 2, "cp", "-p"},
		{"a single failure is forgiven", 1, 2, "pcpcpc", "pppppp"},
		{"two in a row are not", 1, 2, "pccp", "ppcp"},
		{"warning counts as failure, the last one names it", 1, 3, "pcwcw", "pppcw"},
		{"warning and critical change at once", 1, 3, "cccwc", "--cwc"},
		{"passing needs three in a row", 3, 1, "cppcppp", "cccccc" + "p"},
		{"a new check needs its passes too", 2, 2, "pcpp", "---p"},
		{"no thresholds are ones", 0, 0, "wpc", "wpc"},
	} {
		t.Run(test.name, func(t *testing.T) {
			threshold := newThreshold(discovery.CheckSpec{SuccessThreshold: test.success, FailureThreshold: test.failure})
			letters := map[rune]discovery.Status{'p': discovery.Passing, 'w': discovery.Warning, 'c': discovery.Critical}
			var got strings.Builder
			for _, r := range test.results {
				threshold.observe(letters[r])
				got.WriteByte((string(threshold.status) + "-")[0])
			}
			if got.String() != test.want {
				t.Errorf("results %s gave %s, want %s", test.results, got.String(), test.want)
			}
		})
	}
}
