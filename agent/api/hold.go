package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// HeldRegistration is a registration that lasts as long as its open request.
type HeldRegistration struct {
	Registered
	*HeldRequest
}

// HeldRequest is a request that stays open: a registration, lock or claim lasts as long as it
// does.
type HeldRequest struct {
	client *Client
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	cause  func() error   // returns why this side ended the request; nil: it did not
	resp   *http.Response // its trailer says why the agent ended the request
}

var (
	errSilent = errors.New("the agent has been silent for too long")
	errClosed = errors.New("closed by its holder")
)

// Hold registers an instance for as long as the request is open: until Close, or until ctx ends.
// After a lost connection the instance stays registered for 10 s, in which it can be held
// again. The caller runs [HeldRequest.Wait], and closes the registration. ErrConflict: another
// open request or another owner has it. ErrLost: another caller has deregistered by force what this
// client held until a short while ago.
func (c *Client) Hold(ctx context.Context, r discovery.Registration) (*HeldRegistration, error) {
	var e view.Entry
	open, resp, err := c.open(ctx, request{
		method: "PUT", path: instancePath(r.Service, r.ID), query: url.Values{"hold": {""}}, header: c.holderHeader(), body: r,
	}, &e)
	if p, ok := errors.AsType[*Problem](err); ok && p.lost != "" {
		return nil, discovery.Errorf(discovery.ErrLost, "%s", p.lost)
	}
	if err != nil {
		return nil, err
	}
	return &HeldRegistration{registered(resp, e), open}, nil
}

// holderHeader names this client, so that the agent knows who holds an instance, and that a
// request to deregister it is the holder's own. The name has the program and its process id.
func (c *Client) holderHeader() http.Header {
	c.holderOnce.Do(func() {
		program := strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return '_'
			}
			return r
		}, filepath.Base(os.Args[0]))
		c.holder = fmt.Sprintf("%.32s:%d:%.8s", program, os.Getpid(), rand.Text())
	})
	return http.Header{HeaderHolder: {c.holder}}
}

// open sends a request that stays open, and decodes the first JSON value of its response.
func (c *Client) open(ctx context.Context, r request, answer any) (*HeldRequest, *http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := c.send(ctx, r)
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	o := &HeldRequest{client: c, body: resp.Body, resp: resp, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		err = c.unreadable(ctx, fmt.Sprintf("the answer to %s %s", r.method, r.path), err)
		o.Close()
		return nil, nil, err
	}
	return o, resp, nil
}

// Wait blocks until the request ends. It returns nil after Close, the cause of the request's
// context after that has ended, an ErrLost that says who did so after another caller has
// deregistered the instance by force, and otherwise an ErrUnavailable that says how the connection
// to the agent was lost. An agent that is silent for three times [StreamKeepalive] counts as lost.
func (o *HeldRequest) Wait() error {
	silence := time.AfterFunc(3*StreamKeepalive, func() { o.cancel(errSilent) })
	defer silence.Stop()
	buf := make([]byte, 64)
	for {
		if _, err := o.body.Read(buf); err != nil {
			return o.lost(err)
		}
		silence.Reset(3 * StreamKeepalive)
	}
}

// lost returns the error of Wait for an error of the connection.
func (o *HeldRequest) lost(err error) error {
	cause := o.cause()
	switch {
	case errors.Is(cause, errClosed):
		return nil
	case errors.Is(cause, errSilent):
		err = errSilent
	case cause != nil:
		return cause
	case errors.Is(err, io.EOF) && o.resp.Trailer.Get(HeaderLost) != "":
		return discovery.Errorf(discovery.ErrLost, "%s", o.resp.Trailer.Get(HeaderLost))
	}
	return o.client.lost(err)
}

// Close ends the request: the agent releases a lock or claim at once, and deregisters an
// instance after 10 s. To deregister it at once, call [Client.Deregister] before Close: after
// it, another caller may hold the instance.
func (o *HeldRequest) Close() {
	o.cancel(errClosed)
	o.body.Close()
}
