// Package telemetry registers the metrics of a part of disc with whoever collects them.
package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers collectors with r. A nil r is nobody: it registers nothing and
// returns nil. The error joins those of all collectors that r refuses, as it does when
// two parts use one name.
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
