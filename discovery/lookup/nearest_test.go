package lookup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"web", "webapp", "Billing", "api", "api", "straße", "straßen", "payments-eu", "payments-us", "payments-ap"}
	for _, tt := range []struct {
		typed string
		want  []string
	}{
		{"wbe", []string{"web"}},
		{"we", []string{"web", "webapp"}},
		{"biling", []string{"Billing"}},
		{"ap", []string{"api"}},
		{"strasse", []string{"straße"}},
		{"payments-", []string{"payments-ap", "payments-eu", "payments-us"}},
		{"payments-e", []string{"payments-eu", "payments-ap", "payments-us"}},
		{"w", nil},
		{"nothing", nil},
		{"", nil},
		{"BILLING", []string{"Billing"}},
	} {
		t.Run(tt.typed, func(t *testing.T) {
			if got := Nearest(tt.typed, names); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestDidYouMean(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, `; did you mean "a"?`},
		{[]string{"a", "b"}, `; did you mean "a" or "b"?`},
		{[]string{"a", "b", "c\x1b"}, `; did you mean "a", "b" or "c\x1b"?`},
	} {
		t.Run(tt.want, func(t *testing.T) {
			if got := DidYouMean(tt.names); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// The distance is that of the plain rule, whatever is left out of computing it.
func TestEditDistance(t *testing.T) {
	text := func(r *rand.Rand) []rune {
		letters := make([]rune, r.IntN(9))
		for n := range letters {
			letters[n] = []rune("abé")[r.IntN(3)]
		}
		return letters
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		x, y, most := text(r), text(r), r.IntN(9)
		got, want := editDistance(x, y, most), plainDistance(x, y)
		if got != want && (got <= most || want <= most) {
			t.Fatalf("%q to %q, at most %d: %d, want %d", string(x), string(y), most, got, want)
		}
	}
}

// plainDistance is the rule as it is written: the least of what may be done to the last letters.
func plainDistance(x, y []rune) int {
	d := map[[2]int]int{}
	for i := range len(x) + 1 {
		for j := range len(y) + 1 {
			switch {
			case i == 0 || j == 0:
				d[[2]int{i, j}] = i + j
				continue
			case x[i-1] == y[j-1]:
				d[[2]int{i, j}] = d[[2]int{i - 1, j - 1}]
			default:
				d[[2]int{i, j}] = 1 + d[[2]int{i - 1, j - 1}]
			}
			best := min(d[[2]int{i, j}], 1+d[[2]int{i - 1, j}], 1+d[[2]int{i, j - 1}])
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				best = min(best, 1+d[[2]int{i - 2, j - 2}])
			}
			d[[2]int{i, j}] = best
		}
	}
	return d[[2]int{len(x), len(y)}]
}

// BenchmarkNearest asks for names among ten thousand of the longest, of which many are alike.
func BenchmarkNearest(b *testing.B) {
	alike := strings.Repeat("a", 57)
	var names []string
	for n := range 10_000 {
		names = append(names, fmt.Sprintf("%s-%05d", alike, n))
	}
	for _, typed := range []string{alike + "b12345", alike[:40], strings.Repeat("b", 63)} {
		b.Run(typed[36:], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Nearest(typed, names)
			}
		})
	}
}
