package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"disc/config"
)

// leaveTimeout bounds, by default, each write of a stopping agent to an etcd that may be away.
const leaveTimeout = 3 * time.Second

// errStopped ends the components when the agent has shut down.
var errStopped = errors.New("stopped")

// Run runs the agent until ctx ends, and then shuts it down: the agent is no longer ready,
// deregisters its instances (unless on_stop is keep), answers for the drain delay, and stops.
// Run returns nil after that, and otherwise the error of the component that failed.
func (a *Agent) Run(ctx context.Context) error {
	stopped := false
	defer func() {
		if stopped {
			a.log.Info("agent has stopped", "uptime", time.Since(a.node.Started).Round(time.Second))
		}
	}()
	defer a.Close()
	group, running := errgroup.WithContext(context.WithoutCancel(ctx))
	for _, c := range []component{
		{"catalog", a.catalog.Heartbeat(), a.catalog.Run},
		{"session", a.session.Heartbeat(), a.session.Run},
		{"registry", a.registry.Heartbeat(), a.registry.Run},
		{"limits", a.limits.Heartbeat(), a.limits.Run},
		{"kv", a.kv.Heartbeat(), a.kv.Run},
		{"claims", a.claims.Heartbeat(), a.claims.Run},
	} {
		group.Go(func() error { return a.watchdog.supervise(running, c) })
	}
	group.Go(func() error { return a.life.Run(running) })
	group.Go(func() error { return a.level.Run(running) })
	group.Go(func() error { return a.registrar.saved.Run(running) })
	group.Go(func() error { return a.locks.Run(running) })
	group.Go(func() error { return a.certificates.run(running) })
	group.Go(func() error { return a.notifySystemdWatchdog(running) })
	checking, stopChecks := context.WithCancel(running)
	defer stopChecks()
	group.Go(func() error {
		return a.watchdog.supervise(checking, component{"registrar", &a.registrar.heartbeat, a.registrar.Run})
	})
	for _, l := range a.listeners {
		group.Go(func() error { return a.api.Serve(running, l) })
	}
	if a.dnsServer != nil {
		group.Go(func() error { return a.dnsServer.Serve(running) })
	}
	if a.grpc != nil {
		group.Go(func() error { return a.envoy.Serve(running, a.grpc) })
	}
	released := false
	group.Go(func() error {
		select {
		case <-ctx.Done():
			a.registrar.close() // or a check could register an instance again
			stopChecks()
			released = a.shutDown(running)
			return errStopped
		case <-running.Done():
			return nil
		}
	})
	a.log.Info("agent is running", append(a.addresses(), "etcd", a.config.Etcd.Endpoints, "namespace", a.config.Namespace,
		"node", a.node.Node, "advertise", a.node.Address, "owner", a.node.Agent, "version", a.options.Version)...)
	a.notifySystemd(daemon.SdNotifyReady)
	if err := group.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	if a.config.OnStop == config.Leave && released {
		a.revokeLease(context.WithoutCancel(ctx))
	}
	stopped = true
	return nil
}

// revokeLease revokes the lease, which deletes the agent's own record.
func (a *Agent) revokeLease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.leaveTimeout)
	defer cancel()
	if err := a.session.Revoke(ctx); err != nil {
		a.log.Warn("cannot revoke the lease; it expires by itself", "error", err)
	}
}

// shutDown deregisters the instances and releases locks and claims, while the agent answers for
// the drain delay. It reports whether all locks and claims are released: otherwise the lease
// must not end early.
func (a *Agent) shutDown(ctx context.Context) (released bool) {
	drained := time.After(a.config.DrainDelay)
	a.leaving.Store(true)
	a.notifySystemd(daemon.SdNotifyStopping)
	a.log.Info("agent is stopping", "on_stop", a.config.OnStop, "drain_delay", a.config.DrainDelay)
	var releasing sync.WaitGroup
	releasing.Go(func() { released = a.releaseGrants(ctx) })
	if a.config.OnStop == config.Leave {
		a.leave(ctx)
	}
	releasing.Wait()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	return released
}

// releaseGrants ends the locks and claims that are held through this agent, and reports whether
// all are released.
func (a *Agent) releaseGrants(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if a.locks.Close(ctx) {
		return true
	}
	a.log.Warn("locks and claims are not released by their holders, or etcd does not answer; they end with the agent's lease")
	return false
}

// leave deregisters the instances of this agent, if etcd answers.
func (a *Agent) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.leaveTimeout)
	defer cancel()
	if err := a.registry.DeregisterAll(ctx); err != nil {
		a.log.Warn("cannot deregister the instances; they end with the agent's lease", "error", err)
	}
}

// notifySystemdWatchdog notifies systemd's watchdog, if the unit has one (WatchdogSec=), while
// the agent is alive.
func (a *Agent) notifySystemdWatchdog(ctx context.Context) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return err
	}
	for tick := time.NewTicker(interval / 2); ; {
		if a.watchdog.alive() == nil {
			a.notifySystemd(daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil
		}
	}
}

// notifySystemd sends a state to systemd, if that has asked for it.
func (a *Agent) notifySystemd(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("cannot notify systemd", "error", err)
	}
}
