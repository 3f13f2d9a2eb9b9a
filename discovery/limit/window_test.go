package limit

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"disc/discovery"
)

// admission is n tokens that were admitted at a time, of a limit that was created at a
// revision.
type admission struct {
	at    time.Duration
	n     int64
	limit int64
}

// era is a policy and the time at which it came into force.
type era struct {
	from  time.Duration
	limit discovery.Limit
}

// excess returns by how many tokens the fullest of all windows over the admissions is above
// what the limits allow: the rates in force summed over the window, and the largest burst of
// the policies in force in it or, since their tokens may still be good, up to longestHorizon
// before it. Each limit counts by itself.
func excess(admitted []admission, limits map[int64][]era) float64 {
	worst := math.Inf(-1)
	slices.SortStableFunc(admitted, func(a, b admission) int { return cmp.Compare(a.at, b.at) })
	for created, eras := range limits {
		var its []admission
		for _, a := range admitted {
			if a.limit == created {
				its = append(its, a)
			}
		}
		for first := range eras {
			for last := first; last < len(eras); last++ {
				worst = max(worst, excessBetween(its, eras, first, last))
			}
		}
	}
	return worst
}

// excessBetween returns the excess of the windows that see some of the policies only. A
// bucket that drains at the rate holds the tokens by which the fullest window that ends now
// exceeds its rate, so one pass checks all windows.
func excessBetween(admitted []admission, eras []era, first, last int) float64 {
	burst := 0.0
	for _, e := range eras[first : last+1] {
		burst = max(burst, float64(e.limit.Burst))
	}
	from, to := eras[first].from+longestHorizon, time.Duration(math.MaxInt64)
	if first == 0 {
		from = 0
	}
	if last+1 < len(eras) {
		to = eras[last+1].from
	}
	level, worst, before := 0.0, math.Inf(-1), from
	for _, a := range admitted {
		if a.at < from || a.at >= to {
			continue
		}
		level = max(0, level-allowed(eras, before, a.at)) + float64(a.n)
		worst, before = max(worst, level-burst), a.at
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
		"one":          {[]admission{{at: ms(500), n: 1}}, one, 0},
		"a second":     {[]admission{{at: ms(500), n: 1}, {at: ms(1500), n: 1}, {at: ms(2500), n: 1}}, one, 0},
		"early":        {[]admission{{at: ms(500), n: 1}, {at: ms(1400), n: 1}, {at: ms(2500), n: 1}}, one, 0.1},
		"out of order": {[]admission{{at: ms(1400), n: 1}, {at: ms(500), n: 1}}, one, 0.1},
		"a long one":   {[]admission{{at: ms(500), n: 1}, {at: ms(1450), n: 1}, {at: ms(2400), n: 1}}, one, 0.1},
		"burst":        {[]admission{{at: ms(500), n: 5}, {at: ms(600), n: 1}}, []era{{0, policy(10, 5)}}, 0},
		"above":        {[]admission{{at: ms(500), n: 5}, {at: ms(600), n: 2}}, []era{{0, policy(10, 5)}}, 1},
		"faster":       {[]admission{{at: ms(900), n: 1}, {at: ms(1100), n: 2}}, []era{{0, policy(1, 1)}, {ms(1000), policy(10, 1)}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := excess(c.admitted, map[int64][]era{0: c.eras}); math.Abs(got-c.want) > 1e-9 {
				t.Errorf("excess is %v, want %v", got, c.want)
			}
		})
	}
}
