package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// progress shows the row that is being measured. On a terminal it overwrites one line;
// otherwise it writes a line for each row.
type progress struct {
	w            io.Writer
	terminal     bool
	rows, rounds int
	row          string // the line of the current row
}

func newProgress(w io.Writer, rows, rounds int) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd())), rows: rows, rounds: rounds}
}

// clearLine moves to the beginning of a terminal's line and clears it (ECMA-48).
const clearLine = "\r\033[K"

func (p *progress) begin(n int, r row) {
	p.row = fmt.Sprintf("[%d/%d] %s: %s", n+1, p.rows, r.name, r.about)
	if p.terminal {
		fmt.Fprint(p.w, clearLine+p.row)
		return
	}
	fmt.Fprintln(p.w, p.row)
}

func (p *progress) round(n int) {
	if p.terminal {
		fmt.Fprintf(p.w, "%s%s (round %d of %d)", clearLine, p.row, n+1, p.rounds)
	}
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, clearLine)
	}
}
