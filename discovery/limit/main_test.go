package limit

import (
	"testing"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// policy returns a limit of some tokens a second and a burst.
func policy(rate float64, burst int64) discovery.Limit {
	return discovery.Limit{Rate: rate, Burst: burst}.WithDefaults()
}
