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
	// registerTimeout bounds the wait for an agent's answer to a registration.
	registerTimeout = 30 * time.Second
	// releaseTimeout bounds a goodbye to an agent that does not answer.
	releaseTimeout = 2 * time.Second
)

var errNoAnswer = errors.New("the agent does not answer")

// registrationHolder keeps an instance registered at this host's agent, bound to a connection.
type registrationHolder struct {
	client         *api.Client
	registration   discovery.Registration
	infof          func(format string, args ...any) // for the user
	registered     chan struct{}                    // closed when the instance is registered for the first time
	refused        bool                             // the agent's last answer was no
	outcomeUnknown bool                             // its last answer was not waited for
}

func newRegistrationHolder(client *api.Client, r discovery.Registration, note func(string, ...any)) *registrationHolder {
	return &registrationHolder{client: client, registration: r, infof: note, registered: make(chan struct{})}
}

func (h *registrationHolder) name() string { return h.registration.Service + "/" + h.registration.ID }

// run registers the instance, and again whenever the connection is lost, until ctx
// ends. It does not give up: an agent that is away comes back, and who holds the id
// goes.
func (h *registrationHolder) run(ctx context.Context) {
	var backoff retry.Backoff
	for {
		lasted, err := h.registerOnce(ctx)
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

// registerOnce registers the instance until the connection is lost. It returns why that is, or
// why there was none, and how long it lasted.
func (h *registrationHolder) registerOnce(ctx context.Context) (lasted time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(registerTimeout, func() { cancel(errNoAnswer) })
	held, err := h.client.Hold(ctx, h.registration)
	late.Stop()
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

// deregister takes the instance out, after keep has ended, and returns when etcd has it so or
// the agent does not answer. When the agent's last word was no, what it has under the id
// is another's.
func (h *registrationHolder) deregister(ctx context.Context) {
	if h.refused || !h.everRegistered() && !h.outcomeUnknown {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	_, err := h.client.Deregister(ctx, h.registration.Service, h.registration.ID)
	failed := err != nil && !errors.Is(err, discovery.ErrNotFound)
	if failed && !h.everRegistered() {
		return // the agent was not there to be asked before either
	}
	h.markRegistered()
	if failed {
		h.infof("%s is not deregistered: %v; its agent drops it 10 s after the connection", h.name(), err)
	}
}
