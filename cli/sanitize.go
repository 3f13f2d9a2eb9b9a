package cli

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/width"

	"disc/discovery"
)

// printable makes a text safe to print on one line of a terminal: it replaces control
// characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// printableText is [printable] for a text of several lines.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// escapeControls escapes the control characters that JSON allows unescaped: those from DEL on
// (see [discovery.IsControl]).
func escapeControls(json []byte) []byte {
	var b strings.Builder
	for _, r := range string(json) {
		if r >= 0x7f && discovery.IsControl(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}

// displayWidth returns the number of columns that a text takes on a terminal.
func displayWidth(s string) int {
	columns := 0
	for _, r := range s {
		switch kind := width.LookupRune(r).Kind(); {
		case unicode.Is(unicode.Mn, r): // combines with the rune before it
		case kind == width.EastAsianWide, kind == width.EastAsianFullwidth:
			columns += 2
		default:
			columns++
		}
	}
	return columns
}
