package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"disc/discovery"
)

// Held is a registration that is bound to an open request.
type Held struct {
	Registered
	client *Client
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	cause  func() error // why the request ended on this side; nil: it did not
}

var (
	errSilent = errors.New("the agent has said nothing for too long")
	errClosed = errors.New("closed by its holder")
)

// Hold registers an instance that stays for as long as the request is open: until
// Close, or until ctx ends. After the connection is lost, the agent keeps the
// instance for 10 s, in which it can be held again. The caller runs [Held.Wait], and
// closes what it got.
func (c *Client) Hold(ctx context.Context, r discovery.Registration) (*Held, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := c.send(ctx, request{
		method: "PUT", path: instancePath(r.Service, r.ID), query: url.Values{"hold": {""}}, body: r,
	})
	if err != nil {
		cancel(nil)
		return nil, err
	}
	h := &Held{client: c, body: resp.Body, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	var e discovery.Entry
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		err = c.unreachable(ctx, fmt.Errorf("read the held registration: %w", err))
		h.Close()
		return nil, err
	}
	h.Registered = registered(resp, e)
	return h, nil
}

// Wait blocks until the connection to the agent is lost, and returns an
// ErrUnavailable that says how; an agent that is silent for three times [Keepalive]
// counts as lost. After Close it returns nil, after the end of the context that Hold
// got that context's error.
func (h *Held) Wait() error {
	silence := time.AfterFunc(3*Keepalive, func() { h.cancel(errSilent) })
	defer silence.Stop()
	buf := make([]byte, 64)
	for {
		if _, err := h.body.Read(buf); err != nil {
			return h.lost(err)
		}
		silence.Reset(3 * Keepalive)
	}
}

func (h *Held) lost(err error) error {
	cause := h.cause()
	switch {
	case errors.Is(cause, errClosed):
		return nil
	case errors.Is(cause, errSilent):
		err = errSilent
	case cause != nil:
		return cause
	case errors.Is(err, io.EOF):
		err = errors.New("the agent closed the connection")
	}
	return &unreachableError{h.client.address(), err}
}

// Close ends the request; the agent deregisters the instance after 10 s, or at once
// when it is told to with [Client.Deregister].
func (h *Held) Close() {
	h.cancel(errClosed)
	h.body.Close()
}
