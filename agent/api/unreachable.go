package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"disc/discovery"
	"disc/discovery/connect"
)

// unreachable returns an error that names the agent. It wraps the context's cause if ctx has
// ended, and is an ErrUnavailable otherwise.
func (c *Client) unreachable(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		return &noAnswerError{c.address(), cause}
	case cause != nil:
		return fmt.Errorf("ask agent at %s: %w", c.address(), cause)
	}
	return c.lost(err)
}

// lost returns the ErrUnavailable of a request that could not be sent, or whose answer broke off.
func (c *Client) lost(err error) error {
	return &unreachableError{c.address(), failureOf(err, strings.HasPrefix(c.base(), "https:")), err}
}

// unreadable returns the error of an answer that cannot be read or decoded; what names it. An
// answer that no agent gives is told as such.
func (c *Client) unreadable(ctx context.Context, what string, err error) error {
	mistyped := (*json.UnmarshalTypeError)(nil)
	switch {
	case errors.As(err, new(*json.SyntaxError)):
		return c.notAnAgent(what + " is not JSON")
	case errors.As(err, &mistyped) && mistyped.Field != "":
		return c.notAnAgent(fmt.Sprintf("%s is not what an agent answers: its field %s is of another type", what, mistyped.Field))
	case mistyped != nil:
		return c.notAnAgent(what + " is not what an agent answers")
	case errors.Is(err, io.EOF):
		return c.notAnAgent(what + " is empty")
	}
	return c.unreachable(ctx, fmt.Errorf("read %s: %w", what, err))
}

// NoAgent reports whether an error of a [Client] says that what answers at its address is not
// an agent, so that to ask again does not help.
func NoAgent(err error) bool {
	e, ok := errors.AsType[*unreachableError](err)
	return ok && e.failure.Kind == connect.OtherProtocol
}

// noAnswerError is the error of a request that was not answered before its context ended.
type noAnswerError struct {
	address string
	cause   error
}

func (e *noAnswerError) Error() string {
	return fmt.Sprintf("ask agent at %s: no answer in time; is it overloaded, or a firewall between? (set --agent)", e.address)
}

func (e *noAnswerError) Unwrap() error { return e.cause }

// unreachableError is an ErrUnavailable that keeps its cause.
type unreachableError struct {
	address string
	failure connect.Failure
	cause   error // nil: something answers that is no agent
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("ask agent at %s: %s; %s", e.address, e.failure.Reason, hint(e.failure.Kind))
}

func (e *unreachableError) Unwrap() error        { return e.cause }
func (e *unreachableError) Is(target error) bool { return target == discovery.ErrUnavailable }

// spokeFirst is net/http's text for a server that sends something before the request is sent.
const spokeFirst = "readLoopPeekFailLocked: %!w(<nil>)"

// failureOf returns why a request could not be sent, or its answer broke off.
func failureOf(err error, secure bool) connect.Failure {
	wrapped := (*url.Error)(nil)
	switch {
	case errors.As(err, &wrapped):
		err = wrapped.Err
	case connect.Ended(err):
		return connect.Failure{Kind: connect.Other, Reason: "the agent closed the connection"}
	default:
		return connect.FailureOf(err)
	}
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return connect.Failure{Kind: connect.PlainServer, Reason: strings.TrimPrefix(err.Error(), "http: ")}
	case strings.Contains(err.Error(), "malformed HTTP"), err.Error() == spokeFirst:
		return connect.Failure{Kind: connect.OtherProtocol, Reason: "the server does not speak HTTP"}
	case connect.Ended(err) && secure:
		return connect.Failure{Kind: connect.Other, Reason: fmt.Sprintf("the server ended the connection without an answer (%v)", err)}
	case connect.Ended(err):
		return connect.Failure{Kind: connect.TLSServer, Reason: fmt.Sprintf("the server ended the connection without an answer (%v)", err)}
	}
	return connect.FailureOf(err)
}

// hint says what to do about a failure to reach the agent.
func hint(kind connect.Kind) string {
	switch kind {
	case connect.NotPermitted:
		return "join the group of the socket, or name another address with --agent"
	case connect.Local:
		return "the cause lies on this host: see its limits and its firewall"
	case connect.NoAnswer:
		return "is it overloaded, or a firewall between? (set --agent)"
	case connect.NoHost:
		return "is the name in --agent right, and does this host's resolver know it?"
	case connect.UnknownAuthority:
		return "name the file of its CA certificates with --agent-cacert"
	case connect.WrongName:
		return "use a name of its certificate in --agent"
	case connect.BadCertificate:
		return "renew its certificate, and compare the clocks"
	case connect.ClientCertificate:
		return "give a client certificate that it accepts, with --agent-cert and --agent-key"
	case connect.PlainServer:
		return "it has no TLS: write --agent with http://"
	case connect.TLSServer:
		return "is 'disc agent' running, and if it has TLS, is --agent written with https://?"
	case connect.OtherProtocol:
		return "is --agent the address of an agent's HTTP API?"
	}
	return "is 'disc agent' running? (set --agent)"
}

// notAnAgent returns the error of an answer that no agent gives.
func (c *Client) notAnAgent(reason string) error {
	return &unreachableError{c.address(), connect.Failure{Kind: connect.OtherProtocol, Reason: reason}, nil}
}

// plainRequest is what Go's servers with TLS answer to a request without TLS.
const plainRequest = "Client sent an HTTP request to an HTTPS server."

// foreign returns the error of an answer that no agent gives to a request; nil: an agent, or
// a proxy in front of it, may have given it.
func (c *Client) foreign(resp *http.Response, body []byte) error {
	switch {
	case resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(string(body), plainRequest):
		return &unreachableError{c.address(), connect.Failure{Kind: connect.TLSServer, Reason: "the server has TLS, and was asked without"}, nil}
	case resp.StatusCode == http.StatusNotFound:
		return c.notAnAgent(fmt.Sprintf("what answers there is not an agent: it has no %s (%s)", resp.Request.URL.Path, resp.Status))
	}
	return nil
}
