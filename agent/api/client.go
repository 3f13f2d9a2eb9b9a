package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"disc/discovery"
)

// Client asks an agent. Its zero value asks the one at [DefaultAddress]. It may be
// used by many goroutines at once, and sets no deadline of its own: the context does.
type Client struct {
	BaseURL string       // default: http:// and DefaultAddress
	HTTP    *http.Client // default: http.DefaultClient
	Token   string       // for writes to an agent that wants one

	shown string // the address as it was given, for errors; default BaseURL
}

// NewClient returns a client of the agent at a URL, "http://127.0.0.1:3472", at a
// host and port, or at a Unix socket, "unix:///run/disc.sock". It goes through no
// proxy. An address of another form is an ErrInvalid.
func NewClient(address string) (*Client, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true}
	c := &Client{HTTP: &http.Client{Transport: transport}, shown: address}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return nil, discovery.Errorf(discovery.ErrInvalid, "agent address %q: write a socket as unix:///path", address)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.BaseURL = "http://localhost"
		return c, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, discovery.Errorf(discovery.ErrInvalid, "agent address %q is none; give a URL such as http://%s, or unix:///path", c.shown, DefaultAddress)
	}
	c.BaseURL = strings.TrimSuffix(address, "/")
	c.shown = c.BaseURL
	return c, nil
}

// UseTLS sets how an agent's certificate is checked, before the first request of a client
// that [NewClient] made.
func (c *Client) UseTLS(t *tls.Config) { c.HTTP.Transport.(*http.Transport).TLSClientConfig = t }

// CloseIdle closes the connections that no request uses.
func (c *Client) CloseIdle() { c.client().CloseIdleConnections() }

func (c *Client) client() *http.Client { return cmp.Or(c.HTTP, http.DefaultClient) }

func (c *Client) base() string { return cmp.Or(c.BaseURL, "http://"+DefaultAddress) }

// request is one request to be sent.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   any    // nil: none; []byte as it is; else JSON
	accept string // default JSON
}

// send sends a request and returns the answer when its status is below 300; else
// the error that it stands for. The caller closes the body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	target := c.base() + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	body, err := r.encode()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "ask agent: %v", err)
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	req.Header.Set("Accept", cmp.Or(r.accept, TypeJSON))
	if r.body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", TypeJSON)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := c.client().Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.problem(resp)
}

func (r *request) encode() (io.Reader, error) {
	switch body := r.body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return bytes.NewReader(body), nil
	}
	b, err := json.Marshal(r.body)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "%s %s: encode the body: %v", r.method, r.path, err)
	}
	return bytes.NewReader(b), nil
}

// call sends a request and decodes the answer's JSON into answer, unless that is nil.
func (c *Client) call(ctx context.Context, r request, answer any) (*http.Response, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if answer == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, MaxBody))
	} else {
		err = json.NewDecoder(resp.Body).Decode(answer)
	}
	if err != nil {
		return nil, c.unreachable(ctx, fmt.Errorf("read the answer to %s %s: %w", r.method, r.path, err))
	}
	return resp, nil
}

// problem reads the error of an answer.
func (c *Client) problem(resp *http.Response) error {
	p := NewProblem(resp.StatusCode, "")
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil || json.Unmarshal(b, p) != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("agent at %s answered %s, without saying why", c.address(), resp.Status)
	}
	p.Status = resp.StatusCode
	return p
}

func (c *Client) address() string { return cmp.Or(c.shown, c.base()) }

// unreachable says which agent could not be asked. The end of the context stays
// what it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask agent at %s: %w", c.address(), context.Cause(ctx))
	}
	return &unreachableError{c.address(), err}
}

// unreachableError is an ErrUnavailable that keeps its cause.
type unreachableError struct {
	address string
	cause   error
}

func (e *unreachableError) Error() string {
	reason := e.cause.Error()
	var errno syscall.Errno
	var wrapped *url.Error
	switch {
	case errors.As(e.cause, &errno):
		reason = errno.Error()
	case errors.As(e.cause, &wrapped):
		reason = wrapped.Err.Error()
	}
	if unknown := new(x509.UnknownAuthorityError); errors.As(e.cause, unknown) {
		return fmt.Sprintf("ask agent at %s: %s; name the file of its CA certificates with --agent-cacert", e.address, reason)
	}
	return fmt.Sprintf("ask agent at %s: %s; is 'disc agent' running? (set --agent)", e.address, reason)
}

func (e *unreachableError) Unwrap() error        { return e.cause }
func (e *unreachableError) Is(target error) bool { return target == discovery.ErrUnavailable }
