package limit

import (
	"testing"
	"time"
)

func TestHorizons(t *testing.T) {
	for name, c := range map[string]struct {
		rate  float64
		burst int64
		want  time.Duration
	}{
		"usual":                 {20, 20, usualHorizon},
		"fast":                  {700, 2000, 700 * time.Millisecond},
		"very fast":             {1e6, 1e6, 500 * time.Millisecond},
		"slow":                  {1.0 / 60, 3, slowHorizon},
		"a token in three s":    {1.0 / 3, 2, 300 * time.Millisecond},
		"a small burst":         {1000, 100, 50 * time.Millisecond},
		"one by one":            {2, 1, 50 * time.Millisecond},
		"one by one, slow":      {1.0 / 60, 1, longestHorizon},
		"one by one, very fast": {100, 1, shortestHorizon},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parametersOf(policy(c.rate, c.burst)).horizon; (got - c.want).Abs() > time.Microsecond {
				t.Errorf("tokens are good for %v, want %v", got, c.want)
			}
		})
	}
}
