package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"disc/cli"
)

// TestMain runs the roles, and disc itself, in the test's binary, so that the test builds
// nothing.
func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if name == "disc" {
			os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
		}
		os.Exit(runRole(ctx, name, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// TestRows measures each row whose programs are installed, in one short round. Every figure
// must have a ratio; its value does not matter. A round may be too short for one.
func TestRows(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse([]string{"-quick"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if why := r.missingProgram(); why != "" {
				t.Skip(why)
			}
			p := program{path: self, env: []string{roleVariable + "=disc"}}
			var results report
			for range 5 {
				results.Results = measure(t.Context(), s, p, r, func(int) {})
				results.finish()
				if !slices.ContainsFunc(results.Results, func(r result) bool { return strings.HasPrefix(r.LeftOut, tooLittle) }) {
					break
				}
			}
			for _, got := range results.Results {
				if got.LeftOut != "" {
					t.Fatalf("%s: left out: %s", got.Figure, got.LeftOut)
				}
				if m := got.Ratio.Median; len(got.Disc) != 1 || math.IsNaN(m) || math.IsInf(m, 0) {
					t.Errorf("%s: disc measured %v, the other %v, and the ratio is %v", got.Figure, got.Disc, got.Other, m)
				}
			}
		})
	}
}

func TestSidesTakeTurns(t *testing.T) {
	var order string
	side := func(name string, value float64) side {
		return func(context.Context) ([]float64, error) {
			order += name
			return []float64{value, value}, nil
		}
	}
	r := row{name: "a", figures: []figure{{name: "rate", unit: "/s", bound: atLeast(0.9)}, {name: "time", unit: "s", bound: atMost(0.9)}}, start: func(context.Context, *stage) (pair, error) {
		return pair{side("d", 4), side("o", 2)}, nil
	}}
	out := report{Results: measure(t.Context(), settings{rounds: 3}, program{}, r, func(int) {})}
	out.finish()
	if order != "doodd"+"o" {
		t.Errorf("the order of the sides is %s", order)
	}
	for n, met := range []bool{true, false} {
		got := out.Results[n]
		if got.Ratio != (spread{2, 2, 2}) || got.met() != met {
			t.Errorf("%s: %+v, met %v, want met %v", got.Figure, got, got.met(), met)
		}
	}
	if err := out.missed(); err == nil || err.Error() != "bounds are missed: a time" {
		t.Errorf("missed: %v", err)
	}
}

func TestWhatFailsIsLeftOut(t *testing.T) {
	r := row{figures: []figure{{name: "rate", unit: "/s", bound: atLeast(0.9)}}, start: func(context.Context, *stage) (pair, error) {
		return pair{}, errors.New("no luck")
	}}
	got := measure(t.Context(), settings{rounds: 1}, program{}, r, func(int) {})
	if got[0].LeftOut != "no luck" || got[0].met() {
		t.Errorf("%+v", got[0])
	}
	r.needs = []string{"no-such-program"}
	if got := measure(t.Context(), settings{}, program{}, r, func(int) {}); got[0].LeftOut == "no luck" {
		t.Errorf("%+v", got[0])
	}
}

func TestSpread(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   spread
	}{
		"one value":   {[]float64{3}, spread{3, 3, 3}},
		"even number": {[]float64{4, 1}, spread{2.5, 1, 4}},
		"odd number":  {[]float64{9, 1, 2}, spread{2, 1, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := spreadOf(c.values); got != c.want {
				t.Errorf("spread of %v: %v, want %v", c.values, got, c.want)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	s := settings{json: filepath.Join(dir, "out.json"), chart: filepath.Join(dir, "out.svg")}
	limit := atLeast(0.9)
	r := report{Machine: thisMachine(), Results: []result{
		{Row: "a", Figure: "<&>", Disc: []float64{1}, Other: []float64{2}, Bound: &limit},
		{Row: "b", Figure: "rate", LeftOut: "not installed"},
	}}
	r.finish()
	if err := r.save(s); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.json)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(b, &back); err != nil || back.Results[0].Ratio.Median != 0.5 || back.Machine != r.Machine {
		t.Errorf("the JSON file has %+v: %v", back, err)
	}
	if b, err = os.ReadFile(s.chart); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
