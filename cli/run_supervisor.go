package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"disc/cli/child"
)

// supervisor runs a command that is an instance of a service.
type supervisor struct {
	holder      *registrationHolder
	drainDelay  time.Duration
	killTimeout time.Duration
	interactive bool // the input is a terminal
}

// run runs a command, registered, until it and all that it left behind have ended. When
// ctx ends, or at TERM and INT, it drains and stops it.
func (s *supervisor) run(ctx context.Context, args, env []string) (child.Status, error) {
	// Signals are heard before there is a command: none is lost, and the second TERM,
	// which ends every other command of this program, only hurries.
	sig := captureSignals()
	defer sig.restore()
	if ctx.Err() != nil {
		return child.Status{}, ctx.Err()
	}
	command, err := child.Start(child.Command{Args: args, Env: env, Grace: s.killTimeout})
	if err != nil {
		return child.Status{}, err
	}
	var passing sync.WaitGroup
	defer passing.Wait()
	passing.Go(func() { sig.forward(command, s.interactive) })

	holding, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	held := make(chan struct{})
	go func() {
		defer close(held)
		s.holder.run(holding)
	}()
	select {
	case <-command.Exited():
	case <-sig.stop:
	case <-ctx.Done():
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		release()
		<-held
		s.holder.deregister(context.WithoutCancel(ctx))
	}()
	s.drain(command, left, sig.stopNow)
	command.Stop(s.killTimeout)
	<-command.Done()
	<-left
	return command.Status(), nil
}

// drain waits until the instance is deregistered and callers had the drain delay to
// notice; not longer than the command lives, nor than the operator is patient.
func (s *supervisor) drain(command *child.Process, left, hurry <-chan struct{}) {
	select {
	case <-left:
	case <-hurry:
		return
	case <-command.Exited():
		return
	}
	if !s.holder.everRegistered() {
		return // there are no callers
	}
	delay := time.NewTimer(s.drainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-hurry:
	case <-command.Exited():
	}
}

// signals is what this process is sent while it runs a command.
type signals struct {
	received chan os.Signal
	stop     chan struct{} // closed at the first TERM or INT
	stopNow  chan struct{} // closed at the second
}

// captureSignals takes over the signals until end. Those that this process was told to ignore,
// as nohup does, stay ignored, here and by the command.
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

func (s *signals) restore() { signal.Stop(s.received) }

// forward passes signals on to a command until all of it has ended. QUIT and WINCH come
// from the terminal, where there is one, which sends them to the command too.
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
				if stops == 1 {
					close(s.stop)
				} else if stops == 2 {
					close(s.stopNow)
				}
			case interactive && (sig == syscall.SIGQUIT || sig == syscall.SIGWINCH):
			default:
				_ = command.Signal(sig.(syscall.Signal)) // it may have just ended
			}
		}
	}
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
