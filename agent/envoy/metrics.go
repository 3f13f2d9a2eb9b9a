package envoy

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// metrics are the collectors of a server.
type metrics struct {
	streams          prometheus.Gauge
	responses, nacks prometheus.Counter
}

// newMetrics makes the collectors and registers them with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "disc_envoy_streams",
			Help: "Open gRPC streams from Envoy.",
		}),
		responses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_envoy_responses_total",
			Help: "Responses with endpoints sent on gRPC streams.",
		}),
		nacks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_envoy_refusals_total",
			Help: "Responses that Envoy refused (NACK).",
		}),
	}
	if err := telemetry.Register(r, m.streams, m.responses, m.nacks); err != nil {
		return nil, fmt.Errorf("envoy metrics: %w", err)
	}
	return m, nil
}
