package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"disc/cli/child"
	"disc/discovery"
	"disc/discovery/lease"
)

// uptime returns the time since boot, by which the deadlines of grants are counted. It
// includes the time that the host is suspended.
func uptime() time.Duration { return lease.Uptime() }

// guardedCommand runs a command that must not outlive a grant of the agent, such as a
// lock. The grant is bound to a connection to the agent.
type guardedCommand struct {
	grant       string                                       // in messages, such as `lock "backup"`
	awaitEnd    func() error                                 // returns when the connection ends
	renew       func(context.Context) (time.Duration, error) // returns for how long the grant is valid from now
	release     func(context.Context) error
	killTimeout time.Duration
	interactive bool // the standard input is a terminal
}

// runGuarded runs a command with additional environment variables, and then releases the
// grant. The error carries the command's exit code, or is an ErrLost: the grant was lost while
// the command ran, even if that is only known at the release.
func (a *app) runGuarded(ctx context.Context, g guardedCommand, args, env []string) error {
	g.interactive = isTerminal(a.io.In)
	status, err := g.run(ctx, child.Command{Args: args, Env: append(os.Environ(), env...), Grace: g.killTimeout})
	lost := a.release(ctx, g)
	switch {
	case err != nil:
		return err
	case lost != nil:
		return fmt.Errorf("%w; the command had ended by then (%v)", lost, status)
	}
	return exitWith(status.Code)
}

// run runs a command until it ends. It stops the command if the grant is lost, and then
// returns an error.
func (g *guardedCommand) run(ctx context.Context, c child.Command) (child.Status, error) {
	sig := captureSignals()
	defer sig.restore()
	// The validity in a grant counts from when the agent sent it. After a wait that time is
	// unknown here, so the grant is renewed first.
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
	var forwarding sync.WaitGroup
	defer forwarding.Wait()
	forwarding.Go(func() { sig.forward(command, g.interactive) })

	watching, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	deadline := &deadline{now: uptime, end: asked + valid, lead: min(valid/4, g.killTimeout)}
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
	command.Stop(max(0, min(deadline.untilEnd(), g.killTimeout)))
	<-command.Done()
	return command.Status(), fmt.Errorf("%w; the command was stopped (%v)", why, command.Status())
}

// deadline is the time by which the command must have ended.
type deadline struct {
	now  func() time.Duration // [uptime], but in tests
	end  time.Duration        // by now
	lead time.Duration        // time before end at which the command is stopped
}

func (d *deadline) untilEnd() time.Duration  { return d.end - d.now() }
func (d *deadline) untilStop() time.Duration { return d.untilEnd() - d.lead }

// watchGrant renews the grant until it is lost or ctx ends. It returns the reason, early
// enough for the command to end before the grant does.
func (g *guardedCommand) watchGrant(ctx context.Context, d *deadline) error {
	ended := make(chan error, 1)
	go func() { ended <- g.awaitEnd() }()
	var last error // error of the last renewal
	for every := min(time.Second, d.untilEnd()/8); d.untilStop() > 0; {
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
		case left >= every || !errors.Is(err, context.DeadlineExceeded): // otherwise the agent had no time to answer
			last = err
		}
	}
	if last == nil {
		last = errors.New("the agent has lost its session with etcd, or is about to")
	}
	return discovery.Errorf(discovery.ErrLost, "%s is about to expire: %v", g.grant, last)
}

// renewDeadline renews the grant and postpones the deadline. The agent has to answer
// within the given time.
func (g *guardedCommand) renewDeadline(ctx context.Context, d *deadline, within time.Duration) error {
	asked := d.now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	valid, err := g.renew(ctx)
	if err == nil {
		d.end = max(d.end, asked+valid)
	}
	return err
}

// lossCause asks the agent why the connection has ended. ended is the connection's error.
func (g *guardedCommand) lossCause(ctx context.Context, ended error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := g.renew(ctx); errors.Is(err, discovery.ErrLost) {
		return err
	}
	return discovery.Errorf(discovery.ErrLost, "%s is lost with the connection: %v", g.grant, ended)
}

// openGrant requests a grant that is bound to an open connection. The request ends with
// ctx, but the grant outlasts ctx: the command has to be stopped first.
func openGrant[T interface{ Close() }](ctx context.Context, request func(context.Context) (T, error)) (T, error) {
	lasting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	grant, err := request(lasting)
	switch {
	case err != nil:
		cancel(nil)
	case !stop():
		grant.Close()
		err = ctx.Err()
	}
	return grant, err
}

// release releases the grant after the command has ended. ErrLost: the grant was lost before.
func (a *app) release(ctx context.Context, g guardedCommand) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := g.release(ctx)
	if errors.Is(err, discovery.ErrLost) {
		return err
	}
	if err != nil {
		a.infof("%s is not released: %v; it ends with the connection to the agent, or with the agent's session", g.grant, err)
	}
	return nil
}
