package httpapi

import "testing"

func TestBudget(t *testing.T) {
	for name, c := range map[string]struct {
		held []int64
		ask  int64
		want bool
	}{
		"empty":                          {nil, 10, true},
		"the last byte":                  {[]int64{60}, 40, true},
		"one too many":                   {[]int64{60}, 41, false},
		"larger than the budget":         {nil, 1000, true},
		"larger than the budget, in use": {[]int64{1}, 1000, false},
		"beside one that is larger":      {[]int64{1000}, 1, false},
		"several":                        {[]int64{50, 25}, 25, true},
		"nothing is left":                {[]int64{50, 50}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := budget{size: 100}
			for _, n := range c.held {
				if !b.acquire(n) {
					t.Fatalf("there is no room for %d bytes", n)
				}
			}
			if got := b.acquire(c.ask); got != c.want {
				t.Errorf("room for %d bytes: %v, want %v", c.ask, got, c.want)
			} else if got {
				b.release(c.ask)
			}
			for _, n := range c.held {
				b.release(n)
			}
			if used := b.used.Load(); used != 0 {
				t.Errorf("%d bytes are in use at the end", used)
			}
		})
	}
}

// Large bodies must not keep small ones out, nor the other way round.
func TestSmallAndLargeBodiesHaveRoomOfTheirOwn(t *testing.T) {
	b := newBodyBudget(1 << 20)
	fill := func(n int64) {
		for b.of(n).acquire(n) {
		}
	}
	fill(smallBody + 1)
	if !b.of(smallBody).acquire(smallBody) {
		t.Error("large bodies keep a small one out")
	}
	b = newBodyBudget(1 << 20)
	fill(smallBody)
	if !b.of(smallBody + 1).acquire(smallBody + 1) {
		t.Error("small bodies keep a large one out")
	}
}
