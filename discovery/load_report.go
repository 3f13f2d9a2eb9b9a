package discovery

import (
	"encoding/json"
	"math"
	"time"
)

// LoadReportTTL is the time for which a load report counts after the instance last sent
// it to its agent.
const LoadReportTTL = 30 * time.Second

// LoadDiffers reports whether two utilizations differ by at least 0.1. Closer ones count as
// equal: an agent does not write them again.
func LoadDiffers(a, b float64) bool { return math.Abs(a-b) > 0.1-1e-9 }

// LoadReport is an instance's report of its load.
type LoadReport struct {
	// Utilization is the used part of the instance's capacity: 0 is idle, 1 is full, and
	// above 1 is overloaded. It is application_utilization of ORCA, the load reports of
	// Envoy and gRPC (xds.data.orca.v3), or cpu_utilization where that is absent.
	Utilization *float64 `json:"utilization"`
}

// DecodeLoadReport decodes a load report as etcd stores it, ignoring unknown fields. One
// that is not valid is an [ErrInvalid].
func DecodeLoadReport(record []byte) (LoadReport, error) {
	var l LoadReport
	if err := json.Unmarshal(record, &l); err != nil {
		return LoadReport{}, Errorf(ErrInvalid, "decode load report: %v", err)
	}
	return l, l.Validate()
}

// Encode returns the load report as etcd stores it.
func (l LoadReport) Encode() []byte { return encode(l) }

// Validate returns an [ErrInvalid] unless the utilization is given and a finite number of
// at least 0.
func (l LoadReport) Validate() error {
	switch {
	case l.Utilization == nil:
		return Errorf(ErrInvalid, `utilization is missing; give the used part of the capacity, such as {"utilization":0.7}`)
	case !(*l.Utilization >= 0) || math.IsInf(*l.Utilization, 0):
		return Errorf(ErrInvalid, "utilization %v is out of range; use 0 for idle to 1 for full, or more for overloaded", *l.Utilization)
	}
	return nil
}
