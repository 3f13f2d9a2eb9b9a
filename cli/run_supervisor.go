package cli

import (
	"context"
	"sync"
	"time"

	"disc/cli/child"
)

// supervisor runs a command that is an instance of a service.
type supervisor struct {
	holder      *registrationHolder // of the command's instance
	drainDelay  time.Duration
	killTimeout time.Duration
	interactive bool                             // the standard input is a terminal
	progressf   func(format string, args ...any) // prints a message for somebody at a terminal
}

// run runs a command, registered, until the command and its descendants have ended. When
// ctx ends, or at SIGTERM or SIGINT, it drains and stops the command.
func (s *supervisor) run(ctx context.Context, args, env []string) (child.Status, error) {
	// Signals are captured before the command starts, so that none is lost. A second SIGTERM
	// ends every other command; here it only skips the drain delay.
	sig := captureSignals()
	defer sig.restore()
	if ctx.Err() != nil {
		return child.Status{}, ctx.Err()
	}
	command, err := child.Start(child.Command{Args: args, Env: env, Grace: s.killTimeout})
	if err != nil {
		return child.Status{}, err
	}
	var forwarding sync.WaitGroup
	defer forwarding.Wait()
	forwarding.Go(func() { sig.forward(command, s.interactive) })

	endHolder := runInBackground(context.WithoutCancel(ctx), func(ctx context.Context) error { s.holder.run(ctx); return nil })
	select {
	case <-command.Exited():
	case <-sig.stop:
	case <-ctx.Done():
	}
	deregistered := make(chan struct{})
	go func() {
		defer close(deregistered)
		endHolder()
	}()
	s.drain(command, deregistered, sig.stopNow)
	command.Stop(s.killTimeout)
	<-command.Done()
	<-deregistered
	return command.Status(), nil
}

// drain waits until the instance is deregistered and the drain delay is over. It returns
// earlier if the command ends or stopNow is closed.
func (s *supervisor) drain(command *child.Process, deregistered, stopNow <-chan struct{}) {
	select {
	case <-deregistered:
	case <-stopNow:
		return
	case <-command.Exited():
		return
	}
	if !s.holder.everRegistered() || s.holder.taken.Load() {
		return // there are no callers
	}
	if s.drainDelay > 0 {
		s.progressf("%s is deregistered; the command is stopped in %v, after callers have noticed; a second Ctrl-C stops it now", s.holder.name(), s.drainDelay)
	}
	delay := time.NewTimer(s.drainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-stopNow:
	case <-command.Exited():
	}
}
