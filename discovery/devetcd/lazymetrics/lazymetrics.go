// Package lazymetrics registers the metrics of an etcd that is linked into the program
// when an etcd starts, and not whenever the program does.
//
// etcd registers some 80 metrics in Prometheus's default registry while its packages are
// initialized, each by way of a goroutine. Every command of the program would pay for
// them, few commands start an etcd, and an agent has a registry of its own. They take a
// third of the time of 'disc version' (11.0 ms with them, 7.6 without), and 0.25 MiB of an
// idle agent's memory.
//
// The Go specification initializes packages in the order of their import paths, each as
// soon as the packages that it imports are. This package imports Prometheus only, so it
// comes before every package whose path begins with go.etcd.io and that imports
// Prometheus.
package lazymetrics

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// registerer takes the place of Prometheus's default one, which is a package's variable
// itself.
var registerer = &lazyRegisterer{registry: prometheus.DefaultRegisterer}

func init() { //nolint:gochecknoinits // it must come before the init of etcd's packages
	prometheus.DefaultRegisterer = registerer
}

// Register registers the metrics that wait, in Prometheus's default registry. Metrics
// that come later are registered at once.
func Register() error { return registerer.start() }

// lazyRegisterer keeps collectors until it starts, and then passes them to a registry.
type lazyRegisterer struct {
	registry prometheus.Registerer

	mu      sync.Mutex
	started bool
	waiting []prometheus.Collector
}

func (r *lazyRegisterer) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed []error
	for _, c := range r.waiting {
		failed = append(failed, r.registry.Register(c))
	}
	r.started, r.waiting = true, nil
	return errors.Join(failed...)
}

// Register implements prometheus.Registerer. It reports no error before the start.
func (r *lazyRegisterer) Register(c prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started {
		return r.registry.Register(c)
	}
	r.waiting = append(r.waiting, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *lazyRegisterer) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements prometheus.Registerer. It starts the registerer, so that the
// registry knows c.
func (r *lazyRegisterer) Unregister(c prometheus.Collector) bool {
	return r.start() == nil && r.registry.Unregister(c)
}
