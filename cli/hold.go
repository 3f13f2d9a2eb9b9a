package cli

import (
	"context"
	"errors"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// leaveTime bounds a goodbye to an agent that does not answer.
const leaveTime = 5 * time.Second

// holder keeps an instance registered at this host's agent, bound to a connection.
type holder struct {
	client       *api.Client
	registration discovery.Registration
	note         func(format string, args ...any) // for the user
	held         chan struct{}                    // closed when the instance is registered for the first time
}

func newHolder(client *api.Client, r discovery.Registration, note func(string, ...any)) *holder {
	return &holder{client: client, registration: r, note: note, held: make(chan struct{})}
}

// keep registers the instance, and again whenever the connection is lost, until ctx
// ends. It does not give up: an agent that is away comes back, and who holds the id
// goes.
func (h *holder) keep(ctx context.Context) {
	var retry discovery.Backoff
	name := h.registration.Service + "/" + h.registration.ID
	for {
		held, err := h.client.Hold(ctx, h.registration)
		if err == nil {
			h.entered(held.Registered, name)
			retry.Reset()
			err = held.Wait()
			held.Close()
		}
		if ctx.Err() != nil {
			return
		}
		if retry.Failed() {
			h.note("%s is not registered: %v; trying again", name, err)
		}
		if retry.Wait(ctx) != nil {
			return
		}
	}
}

func (h *holder) entered(r api.Registered, name string) {
	if h.wasHeld() {
		h.note("%s is registered again", name)
		return
	}
	if r.Warning != "" {
		h.note("%s", r.Warning)
	}
	close(h.held)
}

func (h *holder) wasHeld() bool {
	select {
	case <-h.held:
		return true
	default:
		return false
	}
}

// leave takes the instance out, and returns when etcd has it so or the agent does not
// answer. The agent may have it even when it never said so: its answer was not waited
// for.
func (h *holder) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	_, err := h.client.Deregister(ctx, h.registration.Service, h.registration.ID)
	if h.wasHeld() && err != nil && !errors.Is(err, discovery.ErrNotFound) {
		h.note("%s/%s is not deregistered: %v; its agent drops it 10 s after the connection", h.registration.Service, h.registration.ID, err)
	}
}
