package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"disc/cli/child"
	"disc/discovery"
	"disc/discovery/lease"
)

// uptime is the clock that deadlines of what is held are counted by: it runs while the host
// is suspended.
func uptime() time.Duration { return lease.Uptime() }

// guardedCommand runs a command that must not outlive what was granted to it.
type guardedCommand struct {
	awaitEnd    func() error                                 // returns when the agent's connection ends
	renew       func(context.Context) (time.Duration, error) // for how long it is granted from now on
	killTimeout time.Duration
	interactive bool
}

// run runs a command until it ends, or stops it when what it needs is lost, which is an
// error.
func (g *guardedCommand) run(ctx context.Context, c child.Command) (child.Status, error) {
	sig := captureSignals()
	defer sig.restore()
	// What was granted after a wait says how long it is valid from its sending, which
	// is not known here.
	asked := uptime()
	asking, cancel := context.WithTimeout(ctx, agentTimeout)
	valid, err := g.renew(asking)
	cancel()
	if err != nil {
		return child.Status{}, err
	}
	command, err := child.Start(c)
	if err != nil {
		return child.Status{}, err
	}
	var passing sync.WaitGroup
	defer passing.Wait()
	passing.Go(func() { sig.forward(command, g.interactive) })

	watching, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	deadline := &deadline{end: asked + valid, lead: min(valid/4, g.killTimeout)}
	lost := make(chan error, 1)
	go func() { lost <- g.watchGrant(watching, deadline) }()
	var why error
	select {
	case <-command.Exited():
	case <-sig.stop:
		command.Stop(g.killTimeout)
	case <-ctx.Done():
		command.Stop(g.killTimeout)
	case why = <-lost:
	}
	if why == nil {
		select {
		case <-command.Done():
			return command.Status(), nil
		case why = <-lost: // while it was being stopped
		}
	}
	command.Stop(max(0, min(deadline.end-uptime(), g.killTimeout)))
	<-command.Done()
	return command.Status(), fmt.Errorf("%w; the command was stopped (%v)", why, command.Status())
}

// deadline is when the command must have ended.
type deadline struct {
	end  time.Duration // on the clock of now
	lead time.Duration // how long before it is told to end
}

func (d *deadline) untilStop() time.Duration { return d.end - d.lead - uptime() }

// watchGrant returns why the grant cannot be relied on any more, early enough for the
// command to end in time.
func (g *guardedCommand) watchGrant(ctx context.Context, d *deadline) error {
	ended := make(chan error, 1)
	go func() { ended <- g.awaitEnd() }()
	var last error // of the last renewal
	for every := min(time.Second, (d.end-uptime())/8); d.untilStop() > 0; {
		select {
		case err := <-ended:
			return g.lossCause(ctx, err)
		case <-time.After(min(every, d.untilStop())):
		case <-ctx.Done():
			return ctx.Err()
		}
		left := d.untilStop()
		err := g.renewDeadline(ctx, d, left)
		switch {
		case errors.Is(err, discovery.ErrLost), errors.Is(err, discovery.ErrNotFound):
			return err
		case left >= every || !errors.Is(err, context.DeadlineExceeded): // else it had no time to answer
			last = err
		}
	}
	if last == nil {
		last = errors.New("the agent has lost its session with etcd, or is about to")
	}
	return discovery.Errorf(discovery.ErrLost, "it can be relied on no longer: %v", last)
}

// renewDeadline moves the deadline on to what the agent says within a time.
func (g *guardedCommand) renewDeadline(ctx context.Context, d *deadline, within time.Duration) error {
	asked := uptime()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	valid, err := g.renew(ctx)
	if err == nil {
		d.end = max(d.end, asked+valid)
	}
	return err
}

// lossCause asks the agent why it has ended the connection.
func (g *guardedCommand) lossCause(ctx context.Context, ended error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := g.renew(ctx); errors.Is(err, discovery.ErrLost) {
		return err
	}
	return discovery.Errorf(discovery.ErrLost, "lost with the connection: %v", ended)
}

// openGrant asks for what is bound to an open request, until ctx ends. What is held does not
// end with ctx: the command has to be stopped first.
func openGrant[T interface{ Close() }](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	holding, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	held, err := ask(holding)
	switch {
	case err != nil:
		cancel(nil)
	case !stop():
		held.Close()
		err = ctx.Err()
	}
	return held, err
}

// release gives back what was held, after the command has ended.
func (a *app) release(ctx context.Context, what string, release func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := release(ctx); err != nil {
		a.infof("%s is not released: %v; it ends with the connection to the agent, or with the agent's session", what, err)
	}
}
