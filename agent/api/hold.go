package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// HeldRegistration is a registration that is bound to an open request.
type HeldRegistration struct {
	Registered
	*OpenRequest
}

// OpenRequest is a request that is kept open: what it asked for lasts as long.
type OpenRequest struct {
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
// instance for 10 s, in which it can be held again. The caller runs [OpenRequest.Wait], and
// closes what it got.
func (c *Client) Hold(ctx context.Context, r discovery.Registration) (*HeldRegistration, error) {
	var e view.Entry
	open, resp, err := c.open(ctx, request{
		method: "PUT", path: instancePath(r.Service, r.ID), query: url.Values{"hold": {""}}, body: r,
	}, &e)
	if err != nil {
		return nil, err
	}
	return &HeldRegistration{registered(resp, e), open}, nil
}

// open sends a request that is to stay open, and decodes the beginning of its answer.
func (c *Client) open(ctx context.Context, r request, answer any) (*OpenRequest, *http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := c.send(ctx, r)
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	o := &OpenRequest{client: c, body: resp.Body, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		err = c.unreachable(ctx, fmt.Errorf("read the answer to %s %s: %w", r.method, r.path, err))
		o.Close()
		return nil, nil, err
	}
	return o, resp, nil
}

// Wait blocks until the connection to the agent is lost, and returns an
// ErrUnavailable that says how; an agent that is silent for three times [Keepalive]
// counts as lost. After Close it returns nil, after the end of the context that the
// request was made with that context's error.
func (o *OpenRequest) Wait() error {
	silence := time.AfterFunc(3*Keepalive, func() { o.cancel(errSilent) })
	defer silence.Stop()
	buf := make([]byte, 64)
	for {
		if _, err := o.body.Read(buf); err != nil {
			return o.lost(err)
		}
		silence.Reset(3 * Keepalive)
	}
}

func (o *OpenRequest) lost(err error) error {
	cause := o.cause()
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
	return &unreachableError{o.client.address(), err}
}

// Close ends the request, and with it what it asked for: a lock at once, a registration
// after 10 s, or at once when the agent is told to with [Client.Deregister].
func (o *OpenRequest) Close() {
	o.cancel(errClosed)
	o.body.Close()
}
