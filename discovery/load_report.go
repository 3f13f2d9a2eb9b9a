package discovery

import (
	"encoding/json"
	"math"
	"time"
)

// LoadReportTTL is how long a load report counts after its agent has last heard it.
const LoadReportTTL = 30 * time.Second

// LoadDiffers reports whether two utilizations are at least 10 points apart. Reports that
// are closer are as good as equal: they are not written anew.
func LoadDiffers(a, b float64) bool { return math.Abs(a-b) > 0.1-1e-9 }

// LoadReport is an instance's report of how busy it is.
type LoadReport struct {
	// Utilization is the part of its capacity that the instance uses: 0 is idle, 1 is
	// full, and above 1 is more than it should take. It is what ORCA, the load reports of
	// Envoy and gRPC (xds.data.orca.v3), calls application_utilization and, where that is
	// not given, cpu_utilization.
	Utilization *float64 `json:"utilization"`
}

// DecodeLoadReport reads a load report as etcd keeps it, ignoring unknown fields.
func DecodeLoadReport(record []byte) (LoadReport, error) {
	var l LoadReport
	if err := json.Unmarshal(record, &l); err != nil {
		return LoadReport{}, Errorf(ErrInvalid, "decode load report: %v", err)
	}
	return l, l.Validate()
}

// Encode writes the load report.
func (l LoadReport) Encode() []byte { return encode(l) }

// Validate returns an [ErrInvalid] unless there is a utilization that is one.
func (l LoadReport) Validate() error {
	switch {
	case l.Utilization == nil:
		return Errorf(ErrInvalid, `utilization is missing; give the part of the capacity that is used, such as {"utilization":0.7}`)
	case !(*l.Utilization >= 0) || math.IsInf(*l.Utilization, 0):
		return Errorf(ErrInvalid, "utilization %v is out of range; use 0 for idle to 1 for full, or more for overloaded", *l.Utilization)
	}
	return nil
}
