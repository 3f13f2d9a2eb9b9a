package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"disc/discovery"
)

// maxBody is how many bytes of a response's body are read. They are more than the output keeps,
// since redaction may shorten it.
const maxBody = 64 << 10

// httpProber sends a request: a status of 2xx is passing, 429 is warning, any other or an
// error is critical.
type httpProber struct {
	request *http.Request // a template, cloned for each probe
	client  *http.Client
	target  string // method and URL, without secrets
	timeout time.Duration
	secrets secrets
}

func newHTTPProber(spec discovery.CheckSpec, via network) (*httpProber, error) {
	host, err := splitHost(spec)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(spec.Method, spec.URL, nil)
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "check %s: method %q or url is not valid", spec.ID, spec.Method)
	}
	p := &httpProber{
		request: request,
		client:  newHTTPClient(via.dialer, newTLSConfig(spec, host, via)),
		target:  request.Method + " " + redactURL(request.URL),
		timeout: time.Duration(spec.Timeout),
	}
	if password, ok := request.URL.User.Password(); ok {
		p.secrets.add(password)
	}
	return p, p.setHeaders(spec)
}

func (p *httpProber) setHeaders(spec discovery.CheckSpec) error {
	p.request.Header.Set("User-Agent", "disc-check")
	for _, name := range slices.Sorted(maps.Keys(spec.Headers)) {
		value := spec.Headers[name]
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return discovery.Errorf(discovery.ErrInvalid, "check %s: header %q has an invalid name or value", spec.ID, name)
		}
		if strings.EqualFold(name, "Host") {
			p.request.Host = value
			continue
		}
		p.request.Header.Set(name, value)
		p.secrets.add(value)
	}
	return nil
}

// newHTTPClient returns a client that uses no proxy and follows redirects only on the same host
// and port. It connects anew for each request: a connection that is open already hides that
// nothing listens any more.
func newHTTPClient(dialer *net.Dialer, security *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxBody,
			TLSClientConfig:        security,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if hostPort(next.URL) != hostPort(via[0].URL) {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Hostname()) + " " + port
}

// redactURL returns a URL without the parts that may be secret: user, password, query and
// fragment.
func redactURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func (p *httpProber) probe(ctx context.Context) result {
	response, err := p.client.Do(p.request.Clone(ctx))
	if err != nil {
		return p.failure(ctx, err)
	}
	defer response.Body.Close()
	if to, err := response.Location(); err == nil && response.StatusCode/100 == 3 {
		// The body is left out: it repeats the address with its secrets.
		output := fmt.Sprintf("%s: %s, a redirect that is not followed, to %s", p.target, response.Status, redactURL(to))
		return result{discovery.Critical, p.secrets.redact(output)}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return p.failure(ctx, fmt.Errorf("%s, but the body did not arrive: %w", response.Status, err))
	}
	text := p.secrets.redact(string(body))
	if len(body) == maxBody {
		text = p.secrets.redactTruncated(string(body))
	}
	return result{statusOfCode(response.StatusCode), fmt.Sprintf("%s: %s\n%s", p.target, response.Status, text)}
}

func (p *httpProber) failure(ctx context.Context, err error) result {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // its text has the whole URL with its secrets
	}
	r := failure(ctx, p.target, p.timeout, err)
	r.output = p.secrets.redact(r.output)
	return r
}

func statusOfCode(code int) discovery.Status {
	switch {
	case code >= 200 && code <= 299:
		return discovery.Passing
	case code == http.StatusTooManyRequests:
		return discovery.Warning
	}
	return discovery.Critical
}
