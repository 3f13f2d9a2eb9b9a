package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
)

// row is one comparison: disc, and what it is held against.
type row struct {
	name    string // for -run and the table
	about   string // what is done, in a line
	against string // what the other side is
	needs   []string
	figures []figure // what a side gives in each round, in this order
	start   func(context.Context, *stage) (pair, error)
}

// figure is one of the numbers that a row gives.
type figure struct {
	name    string
	unit    string
	bound   bound
	against string // the other side, where it differs from the row's
}

// side measures one side of a row once, for about the stage's window, and returns a
// number for each figure.
type side func(context.Context) ([]float64, error)

// pair are the two sides of a row, ready to be measured.
type pair struct{ disc, other side }

// bound is what the ratio of disc to the other side is held to; the zero value holds
// it to nothing.
type bound struct {
	Limit float64 `json:"limit"`
	Most  bool    `json:"most"` // the ratio may not be above the limit; else not below
}

func atLeast(limit float64) bound { return bound{Limit: limit} }
func atMost(limit float64) bound  { return bound{Limit: limit, Most: true} }

func (b bound) none() bool { return b == bound{} }

func (b bound) met(ratio float64) bool {
	if b.Most {
		return ratio <= b.Limit
	}
	return ratio >= b.Limit
}

func (b bound) String() string {
	switch {
	case b.none():
		return ""
	case b.Most:
		return fmt.Sprintf("≤ %.4g", b.Limit)
	}
	return fmt.Sprintf("≥ %.4g", b.Limit)
}

// packages are where the programs come from that rows need.
var packages = map[string]string{
	"wrk": "wrk", "dnsperf": "dnsperf", "redis-server": "redis-server", "redis-benchmark": "redis-tools", "etcdctl": "etcd-client",
}

// missingProgram returns what is missing for a row, and how to get it; empty: nothing is.
func (r *row) missingProgram() string {
	for _, program := range r.needs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s is not installed (Debian package %s)", program, packages[program])
		}
	}
	return ""
}

// rows are all rows, in the order of the table.
func rows() []row {
	return slices.Concat(httpRows(), blockingRows(), inProcessRows(), dnsRows(), changeRows(), syncRows(), applyRows(), interestRows(), unitRows(), fleetRows(), limitRows(), claimRows(), kvRows(), startRows(), memoryRows())
}

// measureAll measures the rows that were chosen, one after the other.
func measureAll(ctx context.Context, s settings, p program, log io.Writer) []result {
	var chosen []row
	for _, r := range rows() {
		if s.names.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	var all []result
	progress := newProgress(log, len(chosen), s.rounds)
	for n, r := range chosen {
		progress.begin(n, r)
		all = append(all, measure(ctx, s, p, r, progress.round)...)
		if ctx.Err() != nil {
			break
		}
	}
	progress.end()
	return all
}

// measure measures a row on a stage of its own. What goes wrong is in the results.
func measure(ctx context.Context, s settings, p program, r row, begin func(int)) []result {
	results := r.results()
	fail := func(why string) []result {
		for n := range results {
			results[n].LeftOut = why
		}
		return results
	}
	if why := r.missingProgram(); why != "" {
		return fail(why)
	}
	stage, err := newStage(s, p)
	if err != nil {
		return fail(err.Error())
	}
	defer stage.close()
	pair, err := r.start(ctx, stage)
	for round := 0; err == nil && round < s.rounds; round++ {
		begin(round)
		err = pair.measure(ctx, round, results)
	}
	if err != nil {
		return fail(err.Error())
	}
	return results
}

// measure adds a round of both sides to the results; they take turns in being first.
func (p pair) measure(ctx context.Context, round int, results []result) error {
	disc := func() error {
		values, err := p.disc(ctx)
		if err != nil {
			return fmt.Errorf("disc: %w", err)
		}
		for n := range results {
			results[n].Disc = append(results[n].Disc, values[n])
		}
		return nil
	}
	other := func() error {
		values, err := p.other(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", results[0].Against, err)
		}
		for n := range results {
			results[n].Other = append(results[n].Other, values[n])
		}
		return nil
	}
	first, second := disc, other
	if round%2 == 1 {
		first, second = other, disc
	}
	if err := first(); err != nil {
		return err
	}
	return second()
}
