package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// report has the results of a run.
type report struct {
	Machine machine  `json:"machine"`
	Rounds  int      `json:"rounds"`
	Results []result `json:"results"`
}

// result is one figure of a row, with a number of each side for each round.
type result struct {
	Row     string    `json:"row"`
	About   string    `json:"about"`
	Against string    `json:"against"`
	Figure  string    `json:"figure"`
	Unit    string    `json:"unit"`
	Disc    []float64 `json:"disc"`
	Other   []float64 `json:"other"`
	Ratio   spread    `json:"ratio"` // of disc to the other
	Bound   *bound    `json:"bound,omitempty"`
	LeftOut string    `json:"left_out,omitempty"` // the reason when there are no numbers
}

// spread is a median with the least and the greatest value.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// results returns a row's figures without any measurement.
func (r *row) results() []result {
	var all []result
	for _, f := range r.figures {
		next := result{Row: r.name, About: r.about, Against: cmp.Or(f.against, r.against), Figure: f.name, Unit: f.unit}
		if !f.bound.none() {
			next.Bound = &f.bound
		}
		all = append(all, next)
	}
	return all
}

// ratios returns the ratio of disc to the other side in each round.
func (r *result) ratios() []float64 {
	var all []float64
	for n, ours := range r.Disc {
		all = append(all, ours/r.Other[n])
	}
	return all
}

func (r *result) met() bool {
	return r.LeftOut == "" && (r.Bound == nil || r.Bound.met(r.Ratio.Median))
}

// tooLittle begins the reason for which a figure is left out that has no ratio.
const tooLittle = "too little to measure"

// finish computes the ratios of all results. It leaves out a figure whose ratio is not a
// finite number, because a side measured 0.
func (r *report) finish() {
	for n := range r.Results {
		result := &r.Results[n]
		if result.LeftOut != "" {
			continue
		}
		if result.Ratio = spreadOf(result.ratios()); math.IsNaN(result.Ratio.Max) || math.IsInf(result.Ratio.Max, 0) {
			result.LeftOut, result.Ratio = fmt.Sprintf("%s: %v against %v", tooLittle, result.Disc, result.Other), spread{}
		}
	}
}

// save writes the files of -json and -chart.
func (r *report) save(s settings) error {
	if s.json != "" {
		b, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return fmt.Errorf("encode the figures: %w", err)
		}
		if err := os.WriteFile(s.json, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if s.chart != "" {
		return os.WriteFile(s.chart, r.chart(), 0o644)
	}
	return nil
}

// print writes the table.
func (r *report) print(w io.Writer) {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "Medians of %d rounds. RATIO is disc to the other; SPREAD is its least and its greatest value.\n\n", r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROW\tFIGURE\tDISC\tOTHER\tAGAINST\tRATIO\tSPREAD\tBOUND\t")
	for _, result := range r.Results {
		if result.LeftOut != "" {
			fmt.Fprintf(t, "%s\t%s\t-\t-\t%s\tleft out: %s\n", result.Row, result.Figure, result.Against, result.LeftOut)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f–%.2f\t%s\n", result.Row, result.Figure,
			number(spreadOf(result.Disc).Median, result.Unit), number(spreadOf(result.Other).Median, result.Unit), result.Against,
			result.Ratio.Median, result.Ratio.Min, result.Ratio.Max, result.boundText())
	}
	t.Flush()
}

func (r *result) boundText() string {
	switch {
	case r.Bound == nil:
		return ""
	case r.met():
		return r.Bound.String() + " met"
	}
	return r.Bound.String() + " MISSED"
}

// missed returns an error that names the missed bounds, or nil. A row that is left out
// misses its bounds.
func (r *report) missed() error {
	var all []string
	for _, result := range r.Results {
		if result.Bound != nil && !result.met() {
			all = append(all, result.Row+" "+result.Figure)
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("bounds are missed: %s", strings.Join(all, ", "))
	}
	return nil
}

// number formats a value with at least three significant digits, and its unit.
func number(v float64, unit string) string {
	text := fmt.Sprintf("%.3g", v)
	if v >= 1000 {
		text = fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSpace(text + " " + unit)
}
