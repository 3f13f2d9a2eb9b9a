// Package telemetry registers the metrics of a package of disc with a Prometheus registry.
package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers collectors with r; with a nil r, it does nothing. The error joins the
// errors of all collectors that r refuses, such as those of a name that is already in use.
func Register(r prometheus.Registerer, collectors ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range collectors {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
