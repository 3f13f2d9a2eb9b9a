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
	// answerTime bounds the wait for an agent's answer to a registration.
	answerTime = 30 * time.Second
	// leaveTime bounds a goodbye to an agent that does not answer.
	leaveTime = 2 * time.Second
)

var errNoAnswer = errors.New("the agent does not answer")

// holder keeps an instance registered at this host's agent, bound to a connection.
type holder struct {
	client       *api.Client
	registration discovery.Registration
	note         func(format string, args ...any) // for the user
	held         chan struct{}                    // closed when the instance is registered for the first time
	refused      bool                             // the agent's last answer was no
	unsure       bool                             // its last answer was not waited for
}

func newHolder(client *api.Client, r discovery.Registration, note func(string, ...any)) *holder {
	return &holder{client: client, registration: r, note: note, held: make(chan struct{})}
}

func (h *holder) name() string { return h.registration.Service + "/" + h.registration.ID }

// keep registers the instance, and again whenever the connection is lost, until ctx
// ends. It does not give up: an agent that is away comes back, and who holds the id
// goes.
func (h *holder) keep(ctx context.Context) {
	var backoff retry.Backoff
	for {
		lasted, err := h.hold(ctx)
		if ctx.Err() != nil {
			h.unsure = !h.wasHeld()
			return
		}
		if lasted > retry.MaxDelay {
			backoff.Reset()
		}
		if backoff.Failed() {
			h.note("%s is not registered: %v; trying again", h.name(), err)
		}
		if backoff.Wait(ctx) != nil {
			return
		}
	}
}

// hold registers the instance until the connection is lost. It returns why that is, or
// why there was none, and how long it lasted.
func (h *holder) hold(ctx context.Context) (lasted time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(answerTime, func() { cancel(errNoAnswer) })
	held, err := h.client.Hold(ctx, h.registration)
	late.Stop()
	if err != nil {
		h.refused = errors.Is(err, discovery.ErrConflict) || errors.Is(err, discovery.ErrInvalid) || errors.Is(err, discovery.ErrForbidden)
		return 0, err
	}
	defer held.Close()
	since := time.Now()
	h.entered(held.Registered)
	err = held.Wait()
	return time.Since(since), err
}

func (h *holder) entered(r api.Registered) {
	h.refused = false
	switch {
	case !r.Written:
		h.note("%s is not in etcd yet; the agent writes it when it reaches etcd", h.name())
	case h.wasHeld():
		h.note("%s is registered again", h.name())
	}
	if r.Warning != "" && !h.wasHeld() {
		h.note("%s", r.Warning)
	}
	h.markHeld()
}

func (h *holder) markHeld() {
	if !h.wasHeld() {
		close(h.held)
	}
}

func (h *holder) wasHeld() bool {
	select {
	case <-h.held:
		return true
	default:
		return false
	}
}

// leave takes the instance out, after keep has ended, and returns when etcd has it so or
// the agent does not answer. When the agent's last word was no, what it has under the id
// is another's.
func (h *holder) leave(ctx context.Context) {
	if h.refused || !h.wasHeld() && !h.unsure {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	_, err := h.client.Deregister(ctx, h.registration.Service, h.registration.ID)
	failed := err != nil && !errors.Is(err, discovery.ErrNotFound)
	if failed && !h.wasHeld() {
		return // the agent was not there to be asked before either
	}
	h.markHeld()
	if failed {
		h.note("%s is not deregistered: %v; its agent drops it 10 s after the connection", h.name(), err)
	}
}
