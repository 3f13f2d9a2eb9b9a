package limit

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"disc/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policy returns a limit of some tokens a second and a burst.
func policy(rate float64, burst int64) discovery.Limit {
	return discovery.Limit{Rate: rate, Burst: burst}.WithDefaults()
}

// until waits until a condition holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited 60 s for: %s", what)
		}
	}
}
