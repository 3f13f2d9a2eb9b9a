package cli

import (
	"cmp"
	"io"
	"os"
	"strings"
	"sync"

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

// outputError reports that stdout could not be written.
type outputError struct{ error }

func (e *outputError) Error() string { return "the output is incomplete: " + e.error.Error() }

func (e *outputError) Unwrap() error { return e.error }

// checkedOutput is a stream that remembers its first failure, for those who do not look at each, such
// as the help. A pipe on stdout that has no reader ends the process by SIGPIPE instead.
type checkedOutput struct {
	to io.Writer

	mu    sync.Mutex
	first error
}

func (o *checkedOutput) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	if err != nil {
		err = &outputError{err}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.first = cmp.Or(o.first, err)
	}
	return n, err
}

// failure returns the first failure; nil: all was written.
func (o *checkedOutput) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.first
}

// childOut returns Out for a child to write on. The child gets a file itself: with a pipe to it, a
// command that has succeeded would fail when the file cannot be written.
func (i *IO) childOut() io.Writer {
	if checked, ok := i.Out.(*checkedOutput); ok {
		if file, ok := checked.to.(*os.File); ok {
			return file
		}
	}
	return i.Out
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
