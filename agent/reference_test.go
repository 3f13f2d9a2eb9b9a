package agent_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"disc/agent"
)

var update = flag.Bool("update", false, "write the page of the metrics")

// The page is written anew by 'go test ./config ./discovery ./agent -run TestReferencePage -update'.
const metricReference = "../docs/reference-metrics.md"

const metricReferenceHead = `# Metrics

What ` + "`/metrics`" + ` of an agent has for Prometheus, beside the metrics of the Go runtime (` + "`go_`" + `) and of the process (` + "`process_`" + `).
One with labels appears with its first value. [Monitoring](production.md#monitoring) says what to look at first.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
`

// metric is a row of the page.
type metric struct {
	kind    string
	labels  []string
	meaning string
}

// description matches how Prometheus's library writes a description: it has no other access to it.
var description = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "(.*?)"(?:, unit: "[^"]*")?, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// TestReferencePage lists the metrics that an agent registers with everything switched on, and
// expects the page to have them all.
func TestReferencePage(t *testing.T) {
	cfg := settings(t, "127.0.0.1:1", "grpc: {listen: \"127.0.0.1:0\"}\n")
	a, err := agent.New(t.Context(), cfg, agent.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	all := describedMetrics(t, a.Metrics())
	page := metricReferenceHead
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		page += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, m.kind, strings.Join(m.labels, ", "), strings.ReplaceAll(m.meaning, "|", `\|`))
	}
	if *update {
		if err := os.WriteFile(metricReference, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricReference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page, string(got)); diff != "" {
		t.Errorf("the page is not that of the code (docs/changing.md says how to write it anew):\n%s", diff)
	}
}

// describedMetrics returns the metrics of disc in a registry. The kind is that of the name, which
// must be that of the metric where there is a value.
func describedMetrics(t *testing.T, registry *prometheus.Registry) map[string]metric {
	t.Helper()
	described := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(described)
		close(described)
	}()
	all := map[string]metric{}
	for d := range described {
		parts := description.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("cannot read %s", d)
		}
		if !strings.HasPrefix(parts[1], "disc_") {
			continue
		}
		m := metric{kind: kindOf(parts[1]), meaning: strings.ReplaceAll(parts[2], `\"`, `"`)}
		for label := range strings.SplitSeq(parts[3]+","+parts[4], ",") {
			if name, _, _ := strings.Cut(label, "="); name != "" {
				m.labels = append(m.labels, "`"+name+"`")
			}
		}
		all[parts[1]] = m
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m, ok := all[f.GetName()]
		if ok && m.kind != map[dto.MetricType]string{dto.MetricType_COUNTER: "counter", dto.MetricType_GAUGE: "gauge", dto.MetricType_HISTOGRAM: "histogram"}[f.GetType()] {
			t.Errorf("%s is a %v, and its name is that of a %s", f.GetName(), f.GetType(), m.kind)
		}
	}
	return all
}

// kindOf returns the kind of metric that a name says.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_duration_seconds"):
		return "histogram"
	}
	return "gauge"
}
