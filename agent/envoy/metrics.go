package envoy

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's own.
type metrics struct {
	streams          prometheus.Gauge
	responses, nacks prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "disc_envoy_streams",
			Help: "Open gRPC streams of Envoy's.",
		}),
		responses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_envoy_responses_total",
			Help: "Responses with endpoints sent on gRPC streams.",
		}),
		nacks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_envoy_refusals_total",
			Help: "Responses that Envoy has refused (NACK).",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.streams, m.responses, m.nacks} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("envoy metrics: %w", err)
		}
	}
	return m, nil
}
