package httpapi

import (
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// registerHeld registers an instance for as long as the request is open. The answer is the
// record, then newlines as keepalives; all together it is one JSON text.
func (a *API) registerHeld(w http.ResponseWriter, r request, reg discovery.Registration) error {
	by, err := holderOf(r)
	if err != nil {
		return err
	}
	if by.ID == "" && !by.Unnamed {
		by.ID = rand.Text()
	}
	end, err := a.admit(r, a.grants)
	if err != nil {
		return err
	}
	defer end()
	r.body.release() // what it had is decoded
	done, hold, err := a.backends.Registrar.Hold(r.Context(), reg, by)
	if err != nil {
		if forced, ok := errors.AsType[*ForcedOutError](err); ok {
			w.Header().Set(api.HeaderLost, forcedOut(forced.By))
		}
		return err
	}
	defer hold.Release()
	defer a.metrics.streaming("hold")()
	if by.ID != "" {
		w.Header().Set(api.HeaderHolder, by.ID)
	}
	w.Header().Set("Trailer", api.HeaderLost)
	if err := a.replyRegistered(w, r, done); err != nil {
		return err
	}
	err = a.streamUntil(w, r, hold.Lost, errRegistrationLost)
	if who := hold.ForcedBy(); who != "" {
		w.Header().Set(api.HeaderLost, forcedOut(who))
	}
	return err
}

var errRegistrationLost = discovery.Errorf(discovery.ErrLost, "the instance was deregistered by another caller")

// streamUntil keeps an answer open until the caller is gone, lost is closed or the API ends. It
// returns err if lost is closed. The keepalives are newlines.
func (a *API) streamUntil(w http.ResponseWriter, r request, lost <-chan struct{}, err error) error {
	var waiting bool
	return a.stream(w, r, func() (<-chan struct{}, error) {
		if waiting {
			return nil, err
		}
		waiting = true
		return lost, nil
	}, func() error {
		_, err := w.Write([]byte{'\n'})
		return err
	})
}

// stream keeps an answer open until the caller is gone or may no longer have it, or the API
// ends. It calls beat at each keepalive, and flushes. wake, if not nil, is called first, and again
// each time the channel that it returned is closed.
func (a *API) stream(w http.ResponseWriter, r request, wake func() (<-chan struct{}, error), beat func() error) error {
	rc := http.NewResponseController(w)
	ticker := time.NewTicker(a.timeouts.keepalive)
	defer ticker.Stop()
	var woken <-chan struct{}
	for {
		var err error
		if wake != nil && woken == nil {
			woken, err = wake()
		}
		if err == nil {
			err = rc.Flush()
		}
		if err != nil {
			return err
		}
		select {
		case <-woken:
			woken = nil
		case <-ticker.C:
			a.extend(w)
			if err := a.recheck(r); err != nil {
				return err
			}
			if err := beat(); err != nil {
				return err
			}
		case <-r.Context().Done():
			return nil
		case <-a.streamsEnded:
			return nil
		}
	}
}
