package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
)

// row is one comparison of disc with another program, or with a limit.
type row struct {
	name    string   // for -run and the table
	about   string   // the measured operation, in one line
	against string   // the other side
	needs   []string // the programs that must be installed
	figures []figure // what each side returns in a round, in this order
	start   func(context.Context, *stage) (pair, error)
}

// figure is one of the numbers that a row measures.
type figure struct {
	name    string
	unit    string
	bound   bound
	against string // the other side, where it differs from the row's
}

// side measures one side of a row once, for about the stage's window. It returns a
// number for each of the row's figures.
type side func(context.Context) ([]float64, error)

// pair has the two sides of a started row.
type pair struct{ disc, other side }

// bound limits the ratio of disc to the other side. The zero value is no bound.
type bound struct {
	Limit float64 `json:"limit"`
	Most  bool    `json:"most"` // Limit is the greatest ratio allowed; otherwise the least
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

// packages maps the programs that rows need to their Debian packages.
var packages = map[string]string{
	"wrk": "wrk", "dnsperf": "dnsperf", "redis-server": "redis-server", "redis-benchmark": "redis-tools", "etcdctl": "etcd-client",
}

// missingProgram says which program of r.needs is not installed, and which package has it.
// It returns "" when all are installed.
func (r *row) missingProgram() string {
	for _, program := range r.needs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s is not installed (Debian package %s)", program, packages[program])
		}
	}
	return ""
}

// rows returns all rows in the order of the table.
func rows() []row {
	return slices.Concat(httpRows(), blockingRows(), inProcessRows(), dnsRows(), changeRows(), syncRows(), applyRows(), interestRows(), unitRows(), fleetRows(), registerRows(), limitRows(), claimRows(), renewRows(), kvRows(), startRows(), memoryRows())
}

// measureAll measures the rows that -run chooses, one after the other. It stops early when
// ctx ends.
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

// measure measures a row on a new stage. On an error, the results say why the row is left
// out.
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

// measure adds a round of both sides to the results. disc is first in even rounds, the other
// side in odd ones.
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
