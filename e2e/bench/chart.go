package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// The chart's dimensions, in pixels.
const (
	chartWidth  = 900
	chartText   = 380 // width of the names on the left
	chartLine   = 22  // height of a bar
	chartTop    = 48
	chartRight  = 130
	chartDecade = 10.0 // the logarithmic scale goes from 1/10 to 10; no pixels
)

// chart draws the ratio of each figure as an SVG: a bar that starts at 1 on a logarithmic
// scale, with the spread as a line and the bound as a tick. The bar of a figure that misses
// its bound has another colour.
func (r *report) chart() []byte {
	var b bytes.Buffer
	var shown []result
	for _, result := range r.Results {
		if result.LeftOut == "" {
			shown = append(shown, result)
		}
	}
	height := chartTop + chartLine*len(shown) + 24
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	text(&b, 8, 18, "disc, as a ratio to the other; "+r.Machine.String())
	for _, mark := range []float64{0.1, 0.2, 0.5, 1, 2, 5, 10} {
		x := chartX(mark)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`+"\n", x, chartTop-6, x, height-20)
		text(&b, x-8, chartTop-10, fmt.Sprintf("%g", mark))
	}
	for n, result := range shown {
		result.bar(&b, float64(chartTop+chartLine*n))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// bar draws one figure with its top at y.
func (r *result) bar(b *bytes.Buffer, y float64) {
	colour := "#4a7ebb"
	if !r.met() {
		colour = "#c0504d"
	}
	one, at := chartX(1), chartX(r.Ratio.Median)
	text(b, 8, y+14, fmt.Sprintf("%s: %s, against %s", r.Row, r.Figure, r.Against))
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="12" fill="%s"/>`+"\n", min(one, at), y+4, math.Abs(at-one), colour)
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="black"/>`+"\n", chartX(r.Ratio.Min), y+10, chartX(r.Ratio.Max), y+10)
	label := fmt.Sprintf("%.2f", r.Ratio.Median)
	if r.Bound != nil {
		x := chartX(r.Bound.Limit)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="black" stroke-width="2"/>`+"\n", x, y+1, x, y+19)
		label += " (" + r.Bound.String() + ")"
	}
	text(b, chartWidth-chartRight+10, y+14, label)
}

// chartX returns the x coordinate of a ratio.
func chartX(ratio float64) float64 {
	part := math.Log(ratio*chartDecade) / math.Log(chartDecade*chartDecade)
	return chartText + min(max(part, 0), 1)*(chartWidth-chartText-chartRight)
}

func text(b *bytes.Buffer, x, y float64, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f">`, x, y)
	xml.EscapeText(b, []byte(s)) // writing to a buffer never fails
	b.WriteString("</text>\n")
}
