package limit

import (
	"testing"

	"go.uber.org/goleak"

	"disc/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policy returns a limit of some tokens a second and a burst.
func policy(rate float64, burst int64) discovery.Limit {
	return discovery.Limit{Rate: rate, Burst: burst}.WithDefaults()
}
