package cli

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry"
)

const (
	// registerTimeout bounds the wait for the agent's answer to a registration.
	registerTimeout = 30 * time.Second
	// releaseTimeout bounds a deregistration, or the release of a lock or claim.
	releaseTimeout = 2 * time.Second
)

var errNoAnswer = errors.New("the agent does not answer")

// registrationHolder keeps an instance registered at this host's agent. The agent drops the
// registration when the connection ends.
type registrationHolder struct {
	client       *api.Client
	registration discovery.Registration
	infof        func(format string, args ...any) // prints a message for the user
	registered   chan struct{}                    // closed when the instance is first registered
	mine         bool                             // the agent may have the registration
	taken        atomic.Bool                      // somebody has deregistered the instance by force
}

func newRegistrationHolder(client *api.Client, r discovery.Registration, infof func(string, ...any)) *registrationHolder {
	return &registrationHolder{client: client, registration: r, infof: infof, registered: make(chan struct{})}
}

func (h *registrationHolder) name() string { return h.registration.Service + "/" + h.registration.ID }

// run registers the instance, and again whenever the connection is lost, until ctx ends. It
// does not give up: an agent may come back, and a holder of the same id may leave. Then it
// deregisters the instance, and returns when etcd has the change or releaseTimeout is over. After
// somebody has deregistered the instance by force, it says so and returns: it learns that from the
// end of the connection, or where that was broken, from the refusal to register the instance again.
func (h *registrationHolder) run(ctx context.Context) {
	// Requests outlive ctx by releaseTimeout.
	requests, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(releaseTimeout, func() { cancel(errNoAnswer) })
	})()
	var backoff retry.Backoff
	for ctx.Err() == nil {
		lasted, err := h.registerAndWait(ctx, requests)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, discovery.ErrLost) {
			h.taken.Store(true)
			h.infof("%s is not registered any more: %s; it stays so until it is run anew", h.name(), printable(err.Error()))
			return
		}
		if lasted > retry.MaxDelay {
			backoff.Reset()
		}
		if backoff.Failed() {
			h.infof("%s is not registered: %v; trying again", h.name(), err)
		}
		_ = backoff.Wait(ctx) // the loop ends with ctx
	}
	if h.mine {
		h.deregister(requests)
	}
}

// registerAndWait registers the instance and waits until the connection is lost. When ctx ends
// first, it deregisters the instance. It returns how long the registration lasted, 0 if it
// failed, and the error that ended it.
func (h *registrationHolder) registerAndWait(ctx, requests context.Context) (lasted time.Duration, err error) {
	requests, cancel := context.WithCancelCause(requests)
	defer cancel(nil)
	timeout := time.AfterFunc(registerTimeout, func() { cancel(errNoAnswer) })
	held, err := h.client.Hold(requests, h.registration)
	timeout.Stop()
	if err != nil {
		if errors.Is(err, discovery.ErrConflict) || errors.Is(err, discovery.ErrInvalid) || errors.Is(err, discovery.ErrForbidden) {
			h.mine = false // the id belongs to another holder
		}
		return 0, err
	}
	defer held.Close()
	h.onRegistered(held.Registered)
	since := time.Now()
	lost := make(chan error, 1)
	go func() { lost <- held.Wait() }()
	select {
	case err = <-lost:
	case <-ctx.Done():
		// While the instance is held, no other holder of the id can have registered it.
		h.deregister(requests)
		held.Close()
		err = <-lost
	}
	return time.Since(since), err
}

func (h *registrationHolder) onRegistered(r api.Registered) {
	h.mine = true
	switch {
	case !r.Written:
		h.infof("%s is not in etcd yet; the agent writes it when it reaches etcd", h.name())
	case h.everRegistered():
		h.infof("%s is registered again", h.name())
	}
	if h.everRegistered() {
		return
	}
	if r.Warning != "" {
		h.infof("%s", r.Warning)
	}
	close(h.registered)
}

func (h *registrationHolder) everRegistered() bool {
	select {
	case <-h.registered:
		return true
	default:
		return false
	}
}

// deregister deregisters the instance. It returns when etcd has the change, or with requests.
func (h *registrationHolder) deregister(requests context.Context) {
	h.mine = false
	_, err := h.client.Deregister(requests, h.registration.Service, h.registration.ID)
	if err != nil && !errors.Is(err, discovery.ErrNotFound) {
		h.infof("%s is not deregistered: %v; the agent drops it 10 s after the connection ends", h.name(), err)
	}
}
