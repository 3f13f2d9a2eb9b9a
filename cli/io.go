package cli

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"disc/config"
)

// IO is the program's terminal and environment. Tests replace the streams by buffers.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal bool // Err is a terminal
	Screen   bool // Out is a terminal
	Color    bool // Out is a terminal that supports colours
	Host     config.Host
}

// System returns the IO of the process.
func System() *IO {
	_, plain := os.LookupEnv("NO_COLOR")
	screen := term.IsTerminal(int(os.Stdout.Fd()))
	return &IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Terminal: term.IsTerminal(int(os.Stderr.Fd())),
		Screen:   screen,
		Color:    screen && !plain && os.Getenv("TERM") != "dumb",
		Host:     config.ThisHost(),
	}
}

// The colours of a terminal.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// paint colours the text of a table cell, if it is a status or state.
func (i *IO) paint(text string) string {
	colour := map[string]string{
		"passing": green, "warning": yellow, "critical": red, "drain": yellow, "down": red,
		"pending": yellow, "conflict": red, "connecting": red, "stale": yellow,
	}[strings.TrimSpace(text)]
	if !i.Color || colour == "" {
		return text
	}
	return colour + text + reset
}
