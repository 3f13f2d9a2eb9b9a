package apitest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Transport returns a transport whose requests fail when the response is not as described. Of a
// stream (a watch, a held registration) it checks only the status and headers, and passes the
// body on.
func (v *Validator) Transport(base http.RoundTripper) http.RoundTripper {
	return &transport{v, base}
}

type transport struct {
	validator *Validator
	base      http.RoundTripper
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := t.read(req, resp)
	if err == nil {
		err = t.validator.Response(req, resp, body)
	}
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("an answer that the description does not allow: %w", err)
	}
	return resp, nil
}

// CloseIdleConnections implements what http.Client.CloseIdleConnections calls.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// read reads the body of a response that is not a stream, and puts it back.
func (t *transport) read(req *http.Request, resp *http.Response) ([]byte, error) {
	stream := req.URL.Query().Has("hold") && resp.StatusCode < 300 ||
		strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	if stream {
		return nil, nil
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}
