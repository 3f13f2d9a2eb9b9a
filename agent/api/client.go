package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"disc/discovery"
)

// Client is a client of an agent. The zero value uses the agent at [DefaultAddress]. A client is
// safe for concurrent use, and has no timeout of its own: set a deadline in the context.
type Client struct {
	BaseURL string       // without a slash at the end; default: http:// and DefaultAddress
	HTTP    *http.Client // default: as http.DefaultClient, but it follows no redirects
	Token   string       // bearer token (RFC 6750); empty: none

	// ReadToken, unless nil, is called when an agent refuses the token (401 or 403). If it
	// returns another, the client sends the request again with that, and each later one, so
	// that a token can be replaced while the program runs. Its error is added to the refusal.
	ReadToken func(context.Context) (string, error)

	// SendTokenInClear allows to send the token over plain HTTP to another host, where
	// others on the network can read it. Otherwise such requests are an ErrForbidden, and
	// not sent.
	SendTokenInClear bool

	shown   string                 // the address in errors; default BaseURL
	renewed atomic.Pointer[string] // from ReadToken; nil: Token is the one to send

	holderOnce sync.Once
	holder     string // see holderHeader
}

// NewClient returns a client of the agent at an address: a URL such as
// "http://127.0.0.1:3472", a host and port, or a Unix socket such as
// "unix:///run/disc.sock". The client uses no proxy. ErrInvalid: the address has another form.
func NewClient(address string) (*Client, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true}
	c := &Client{HTTP: &http.Client{Transport: transport, CheckRedirect: stayHere}, shown: address}
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
		return nil, discovery.Errorf(discovery.ErrInvalid, "agent address %q is not valid; give a URL such as http://%s, or unix:///path", c.shown, DefaultAddress)
	}
	c.BaseURL = strings.TrimSuffix(address, "/")
	c.shown = c.BaseURL
	return c, nil
}

// UseTLS sets the TLS configuration for https. Call it before the first request, and only on a
// client from [NewClient].
func (c *Client) UseTLS(t *tls.Config) { c.HTTP.Transport.(*http.Transport).TLSClientConfig = t }

// stayHere follows no redirect: an agent sends none, and the token is for the agent alone.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// CloseIdle closes idle connections.
func (c *Client) CloseIdle() { c.client().CloseIdleConnections() }

// defaultClient is http.DefaultClient, but for redirects.
var defaultClient = &http.Client{CheckRedirect: stayHere}

func (c *Client) client() *http.Client { return cmp.Or(c.HTTP, defaultClient) }

func (c *Client) base() string { return cmp.Or(c.BaseURL, "http://"+DefaultAddress) }

// request describes a request to send.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   any    // nil: none; []byte: as it is; any other: as JSON
	accept string // default JSON
}

// send sends a request and returns the response if its status is below 300, otherwise the
// error of the status. The caller closes the body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	token := c.token()
	resp, err := c.sendWith(ctx, r, token)
	problem, ok := errors.AsType[*Problem](err)
	if !ok || c.ReadToken == nil || problem.Status != http.StatusUnauthorized && problem.Status != http.StatusForbidden {
		return resp, err
	}
	switch read, readErr := c.ReadToken(ctx); {
	case readErr != nil:
		return nil, fmt.Errorf("%w; and no other token can be read: %w", err, readErr)
	case read == "" || read == token:
		return nil, err
	default:
		c.renewed.Store(&read)
		return c.sendWith(ctx, r, read)
	}
}

// token returns the token to send; "": none.
func (c *Client) token() string {
	if t := c.renewed.Load(); t != nil {
		return *t
	}
	return c.Token
}

func (c *Client) sendWith(ctx context.Context, r request, token string) (*http.Response, error) {
	if err := checkPath(r.path); err != nil {
		return nil, err
	}
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
	if token != "" {
		if req.URL.Scheme != "https" && !discovery.IsLoopback(req.URL.Hostname()) && !c.SendTokenInClear {
			return nil, discovery.Errorf(discovery.ErrForbidden, "ask agent at %s: the token is not sent without TLS, since others on the network could read it; give an https:// address, or allow it (--send-token-in-clear)", c.address())
		}
		req.Header.Set("Authorization", "Bearer "+token)
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

// checkPath returns an ErrInvalid for the path of a name that is empty, "." or "..". A server
// would take it for another path. The keys of a prefix end in a slash.
func checkPath(path string) error {
	keys := strings.HasPrefix(path, "/v1/kv/")
	for n, segment := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		switch {
		case segment == "." || segment == "..":
			return discovery.Errorf(discovery.ErrInvalid, "the name %q cannot be asked for: give 1 or more letters or digits", segment)
		case segment == "" && n > 0 && !keys:
			return discovery.Errorf(discovery.ErrInvalid, "a name is empty in %s: give 1 or more letters or digits", path)
		}
	}
	return nil
}

// encode returns the request's body; nil if it has none.
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

// call sends a request and decodes the JSON of the response into answer, unless that is nil.
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
		return nil, c.unreadable(ctx, fmt.Sprintf("the answer to %s %s", r.method, r.path), err)
	}
	return resp, nil
}

// lacks reports whether a problem says that the agent does not have the path, or not for this method.
func lacks(p *Problem, resp *http.Response) bool {
	worded := func(before, after string) bool {
		return strings.HasPrefix(p.Detail, before) && strings.HasSuffix(p.Detail, after)
	}
	return p.Status == http.StatusNotFound && (worded("path /", " does not exist; see /openapi.json for those that do") ||
		worded("there is no /", " here; see /openapi.json for what there is")) || // version 0.1.0
		p.Status == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != ""
}

// problem reads the error of a response. A path or a method that the agent does not have is no
// [Problem] of status 404, which would say that a service or a lock is unknown, but of 501.
func (c *Client) problem(resp *http.Response) error {
	p := NewProblem(resp.StatusCode, "")
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil || json.Unmarshal(b, p) != nil || p.Detail == "" {
		if err := c.foreign(resp, b); err != nil {
			return err
		}
		p.Detail = fmt.Sprintf("agent at %s answered %s, without a reason", c.address(), resp.Status)
	}
	p.Status, p.lost = resp.StatusCode, resp.Header.Get(HeaderLost)
	if lacks(p, resp) {
		return NewProblem(http.StatusNotImplemented, fmt.Sprintf("agent at %s does not know %s %s, as an agent of an earlier version; upgrade it, and see 'disc status' for its version",
			c.address(), resp.Request.Method, resp.Request.URL.Path))
	}
	return p
}

func (c *Client) address() string { return cmp.Or(c.shown, c.base()) }
