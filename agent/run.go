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

// leaveTimeout bounds saying goodbye to an etcd that may be away.
const leaveTimeout = 3 * time.Second

// errStopped ends the parts when the agent has left.
var errStopped = errors.New("stopped")

// Run runs the agent until ctx ends and it has left: it is no longer ready, says
// goodbye (unless on_stop is keep), goes on answering for the drain delay, and stops.
// An agent that fails returns why.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close()
	group, running := errgroup.WithContext(context.WithoutCancel(ctx))
	group.Go(func() error {
		return a.watchdog.supervise(running, component{"catalog", a.catalog.Heartbeat(), a.catalog.Run})
	})
	group.Go(func() error {
		return a.watchdog.supervise(running, component{"session", a.session.Heartbeat(), a.session.Run})
	})
	group.Go(func() error {
		return a.watchdog.supervise(running, component{"registry", a.registry.Heartbeat(), a.registry.Run})
	})
	group.Go(func() error { return a.locks.Run(running) })
	group.Go(func() error {
		return a.watchdog.supervise(running, component{"limits", a.limits.Heartbeat(), a.limits.Run})
	})
	group.Go(func() error { return a.watchdog.supervise(running, component{"kv", a.kv.Heartbeat(), a.kv.Run}) })
	group.Go(func() error {
		return a.watchdog.supervise(running, component{"claims", a.claims.Heartbeat(), a.claims.Run})
	})
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
	letGo := false
	group.Go(func() error {
		select {
		case <-ctx.Done():
			a.registrar.close() // or the last word of a check could come after the goodbye
			stopChecks()
			letGo = a.shutDown(running)
			return errStopped
		case <-running.Done():
			return nil
		}
	})
	a.log.Info("agent is running", "http", a.Addr().String(), "dns", a.DNSAddr().String(), "grpc", a.GRPCAddr(), "etcd", a.config.Etcd.Endpoints, "namespace", a.config.Namespace,
		"node", a.node.Node, "advertise", a.node.Address, "owner", a.node.Agent)
	a.notifySystemd(daemon.SdNotifyReady)
	if err := group.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	if a.config.OnStop == config.Leave && letGo {
		a.revokeLease(context.WithoutCancel(ctx))
	}
	return nil
}

// revokeLease gives the lease back, and with it the agent's own record.
func (a *Agent) revokeLease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := a.session.Revoke(ctx); err != nil {
		a.log.Warn("etcd did not take the lease back; it ends by itself", "error", err)
	}
}

// shutDown says goodbye and answers on for the drain delay. It reports whether all who held
// something through this agent have let go of it: else its lease must not end early.
func (a *Agent) shutDown(ctx context.Context) (letGo bool) {
	drained := time.After(a.config.DrainDelay)
	a.leaving.Store(true)
	a.notifySystemd(daemon.SdNotifyStopping)
	a.log.Info("agent is stopping", "on_stop", a.config.OnStop, "drain_delay", a.config.DrainDelay)
	var goodbye sync.WaitGroup
	goodbye.Go(func() { letGo = a.releaseGrants(ctx) })
	if a.config.OnStop == config.Leave {
		a.leave(ctx)
	}
	goodbye.Wait()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	return letGo
}

// releaseGrants ends the locks and claims that are held through this agent.
func (a *Agent) releaseGrants(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if a.locks.Close(ctx) {
		return true
	}
	a.log.Warn("holders of locks and claims have not let go of them, or etcd does not answer; they end with the agent's lease")
	return false
}

// leave takes what this agent has registered out of etcd, as far as etcd answers.
func (a *Agent) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := a.registry.Leave(ctx); err != nil {
		a.log.Warn("etcd did not take the goodbye; the registrations end with their lease", "error", err)
	}
}

// notifySystemdWatchdog tells systemd's watchdog, where the unit has one (WatchdogSec=), that the
// agent is alive, while no part of it is stuck for good.
func (a *Agent) notifySystemdWatchdog(ctx context.Context) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return err
	}
	for tick := time.NewTicker(every / 2); ; {
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

// notifySystemd tells systemd how the agent is, where systemd has asked for it.
func (a *Agent) notifySystemd(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("cannot notify systemd", "error", err)
	}
}
