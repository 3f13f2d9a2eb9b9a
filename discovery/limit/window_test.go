package limit

import (
	"math"
	"slices"
	"testing"
	"time"

	"disc/discovery"
)

// admission is n tokens that were admitted at a time.
type admission struct {
	at time.Duration
	n  int64
}

// era is a policy and the time at which it came into force.
type era struct {
	from  time.Duration
	limit discovery.Limit
}

// excess returns by how many tokens the fullest of all windows over the admissions is above
// what the limits allow: the greatest burst, and the rates in force summed over the window.
// A bucket that drains at the rate holds the tokens by which the fullest window that ends
// now exceeds its rate, so one pass checks all windows.
func excess(admitted []admission, eras []era) float64 {
	slices.SortFunc(admitted, func(a, b admission) int { return int(a.at - b.at) })
	burst := 0.0
	for _, e := range eras {
		burst = max(burst, float64(e.limit.Burst))
	}
	level, worst, last := 0.0, math.Inf(-1), time.Duration(0)
	for _, a := range admitted {
		level = max(0, level-allowed(eras, last, a.at)) + float64(a.n)
		worst, last = max(worst, level-burst), a.at
	}
	return worst
}

// allowed returns the rates in force, summed over a window.
func allowed(eras []era, from, to time.Duration) (sum float64) {
	for n, e := range eras {
		end := to
		if n+1 < len(eras) {
			end = min(to, eras[n+1].from)
		}
		if begin := max(from, e.from); end > begin {
			sum += e.limit.PerSecond() * (end - begin).Seconds()
		}
	}
	return sum
}

func TestExcess(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	one := []era{{0, policy(1, 1)}}
	for name, c := range map[string]struct {
		admitted []admission
		eras     []era
		want     float64
	}{
		"one":          {[]admission{{ms(500), 1}}, one, 0},
		"a second":     {[]admission{{ms(500), 1}, {ms(1500), 1}, {ms(2500), 1}}, one, 0},
		"early":        {[]admission{{ms(500), 1}, {ms(1400), 1}, {ms(2500), 1}}, one, 0.1},
		"out of order": {[]admission{{ms(1400), 1}, {ms(500), 1}}, one, 0.1},
		"a long one":   {[]admission{{ms(500), 1}, {ms(1450), 1}, {ms(2400), 1}}, one, 0.1},
		"burst":        {[]admission{{ms(500), 5}, {ms(600), 1}}, []era{{0, policy(10, 5)}}, 0},
		"above":        {[]admission{{ms(500), 5}, {ms(600), 2}}, []era{{0, policy(10, 5)}}, 1},
		"faster":       {[]admission{{ms(900), 1}, {ms(1100), 2}}, []era{{0, policy(1, 1)}, {ms(1000), policy(10, 1)}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := excess(c.admitted, c.eras); math.Abs(got-c.want) > 1e-9 {
				t.Errorf("excess is %v, want %v", got, c.want)
			}
		})
	}
}
