package cli

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"disc/cli/child"
)

// signals captures the signals to this process while it runs a command.
type signals struct {
	received chan os.Signal
	stop     chan struct{} // closed at the first SIGTERM or SIGINT
	stopNow  chan struct{} // closed at the second
}

// captureSignals captures signals until restore is called. Signals that were ignored when
// this process started, as under nohup, stay ignored, by the command too.
func captureSignals() *signals {
	s := &signals{make(chan os.Signal, 64), make(chan struct{}), make(chan struct{})}
	signal.Notify(s.received, syscall.SIGTERM, syscall.SIGINT)
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT} {
		if !signal.Ignored(sig) {
			signal.Notify(s.received, sig)
		}
	}
	return s
}

// restore ends the capture.
func (s *signals) restore() { signal.Stop(s.received) }

// forward sends the captured signals to a command until the command and its descendants
// have ended. It omits SIGQUIT and SIGWINCH if the command is interactive: the terminal
// sends them to the command itself.
func (s *signals) forward(command *child.Process, interactive bool) {
	stops := 0
	for {
		select {
		case <-command.Done():
			return
		case sig := <-s.received:
			switch {
			case sig == syscall.SIGTERM || sig == syscall.SIGINT:
				stops++
				switch stops {
				case 1:
					close(s.stop)
				case 2:
					close(s.stopNow)
				}
			case interactive && (sig == syscall.SIGQUIT || sig == syscall.SIGWINCH):
			default:
				_ = command.Signal(sig.(syscall.Signal)) // the command may have just ended
			}
		}
	}
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
