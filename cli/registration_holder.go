package cli

import (
	"context"
	"errors"
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
	client         *api.Client
	registration   discovery.Registration
	infof          func(format string, args ...any) // prints a message for the user
	registered     chan struct{}                    // closed when the instance is first registered
	refused        bool                             // the agent refused the last registration
	outcomeUnknown bool                             // the last registration ended without an answer
}

func newRegistrationHolder(client *api.Client, r discovery.Registration, infof func(string, ...any)) *registrationHolder {
	return &registrationHolder{client: client, registration: r, infof: infof, registered: make(chan struct{})}
}

func (h *registrationHolder) name() string { return h.registration.Service + "/" + h.registration.ID }

// run registers the instance, and again whenever the connection is lost, until ctx ends.
// It never gives up: an agent may come back, and a holder of the same id may leave.
func (h *registrationHolder) run(ctx context.Context) {
	var backoff retry.Backoff
	for {
		lasted, err := h.registerAndWait(ctx)
		if ctx.Err() != nil {
			h.outcomeUnknown = !h.everRegistered()
			return
		}
		if lasted > retry.MaxDelay {
			backoff.Reset()
		}
		if backoff.Failed() {
			h.infof("%s is not registered: %v; trying again", h.name(), err)
		}
		if backoff.Wait(ctx) != nil {
			return
		}
	}
}

// registerAndWait registers the instance and waits until the connection is lost. It returns
// how long the registration lasted, 0 if it failed, and the error that ended it.
func (h *registrationHolder) registerAndWait(ctx context.Context) (lasted time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := time.AfterFunc(registerTimeout, func() { cancel(errNoAnswer) })
	held, err := h.client.Hold(ctx, h.registration)
	timeout.Stop()
	if err != nil {
		h.refused = errors.Is(err, discovery.ErrConflict) || errors.Is(err, discovery.ErrInvalid) || errors.Is(err, discovery.ErrForbidden)
		return 0, err
	}
	defer held.Close()
	since := time.Now()
	h.onRegistered(held.Registered)
	err = held.Wait()
	return time.Since(since), err
}

func (h *registrationHolder) onRegistered(r api.Registered) {
	h.refused = false
	switch {
	case !r.Written:
		h.infof("%s is not in etcd yet; the agent writes it when it reaches etcd", h.name())
	case h.everRegistered():
		h.infof("%s is registered again", h.name())
	}
	if r.Warning != "" && !h.everRegistered() {
		h.infof("%s", r.Warning)
	}
	h.markRegistered()
}

func (h *registrationHolder) markRegistered() {
	if !h.everRegistered() {
		close(h.registered)
	}
}

func (h *registrationHolder) everRegistered() bool {
	select {
	case <-h.registered:
		return true
	default:
		return false
	}
}

// deregister deregisters the instance after run has ended. It returns when etcd has the
// change or the agent does not answer. If the agent refused the last registration, the id
// belongs to another holder, and deregister does nothing.
func (h *registrationHolder) deregister(ctx context.Context) {
	if h.refused || !h.everRegistered() && !h.outcomeUnknown {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	_, err := h.client.Deregister(ctx, h.registration.Service, h.registration.ID)
	failed := err != nil && !errors.Is(err, discovery.ErrNotFound)
	if failed && !h.everRegistered() {
		return // the agent was unavailable before, too
	}
	h.markRegistered()
	if failed {
		h.infof("%s is not deregistered: %v; the agent drops it 10 s after the connection ends", h.name(), err)
	}
}
