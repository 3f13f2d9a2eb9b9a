package catalog

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/reflector"
	"disc/discovery/telemetry"
)

// metrics are a catalog's collectors.
type metrics struct {
	revision      prometheus.Gauge
	events        prometheus.Counter
	reflector     *reflector.Metrics
	broken        prometheus.Gauge
	brokenNow     atomic.Int64 // the gauge's value
	suspects      prometheus.Gauge
	suspectsNow   atomic.Int64 // the gauge's value
	suspectsEnded *prometheus.CounterVec
	services      prometheus.Gauge
	nodes         prometheus.Gauge
	lastGood      *prometheus.CounterVec
}

// newMetrics makes the collectors and registers them with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "disc_catalog_" + name, Help: help})
	}
	m := &metrics{
		revision: gauge("revision", "Revision of etcd up to which the view is complete."),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_catalog_events_total", Help: "Changes received through the watch."}),
		broken:   gauge("broken_records", "Records under the prefix that cannot be read."),
		suspects: gauge("suspects", "Instances that vanished with many others and are still shown."),
		suspectsEnded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_catalog_suspects_ended_total", Help: "Instances that stopped being suspects, by reason: returned, left, probe, operator or timeout."}, []string{"by"}),
		services: gauge("services", "Services known."),
		nodes:    gauge("nodes", "Agents known."),
		lastGood: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_catalog_last_good_failures_total", Help: "Times that the last good view could not be saved or loaded."}, []string{"call"}),
	}
	if err := telemetry.Register(r, m.revision, m.events, m.broken, m.suspects, m.suspectsEnded, m.services, m.nodes, m.lastGood); err != nil {
		return nil, fmt.Errorf("catalog metrics: %w", err)
	}
	var err error
	m.reflector, err = reflector.NewMetrics(r, "catalog")
	return m, err
}

func (m *metrics) setBroken(n int) {
	m.brokenNow.Store(int64(n))
	m.broken.Set(float64(n))
}

func (m *metrics) setSuspects(n int) {
	m.suspectsNow.Store(int64(n))
	m.suspects.Set(float64(n))
}

func (m *metrics) observe(s *state) {
	m.revision.Set(float64(max(s.complete, s.snapshot.Revision())))
	m.services.Set(float64(s.snapshot.ServiceCount()))
	m.nodes.Set(float64(s.snapshot.NodeCount()))
}
