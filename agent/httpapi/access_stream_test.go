package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

// TestRemovedTokenEndsStreams expects an open request to end when its token is removed: a
// registration and a lock are given up.
func TestRemovedTokenEndsStreams(t *testing.T) {
	for name, path := range map[string]string{
		"a registration": "/v1/services/web/instances/w?hold", "a watch": "/v1/watch", "a watch of keys": "/v1/kv",
	} {
		t.Run(name, func(t *testing.T) {
			f := withWebs(1)
			guard := authenticator(policy(t, "", "all"))
			a := f.api(t, Options{Access: guard})
			a.timeouts.keepalive = 1e6
			s := serve(t, a)
			method := "GET"
			if strings.Contains(path, "hold") {
				method = "PUT"
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, method, s.BaseURL+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if method == "GET" {
				req.Body, req.ContentLength = http.NoBody, 0
			}
			req.Header.Set("Authorization", "Bearer all")
			req.Header.Set("Accept", api.TypeEvents)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			buf := make([]byte, 1)
			if _, err := resp.Body.Read(buf); err != nil || resp.StatusCode > 299 {
				t.Fatalf("%s, %v", resp.Status, err)
			}
			guard.Set(policy(t, "kv-read:public/", "read"))
			for err == nil { // until the agent ends the answer
				_, err = resp.Body.Read(buf)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("the answer goes on: %v", err)
			}
		})
	}
	t.Run("a lock", func(t *testing.T) {
		guard := authenticator(policy(t, "", "all"))
		a := newFleet().api(t, Options{Access: guard})
		a.timeouts.keepalive = 1e6
		released := make(chan struct{}, 1)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/locks/x?hold", nil)
		r.SetPathValue("name", "x")
		w := httptest.NewRecorder()
		rt := &route{scope: access.Lock, subject: "name"}
		guard.Set(policy(t, ""))
		err := a.keepHeld(w, request{Request: r, route: rt}, make(chan struct{}), func(context.Context) { released <- struct{}{} })
		if !errors.Is(err, discovery.ErrForbidden) || len(released) != 1 {
			t.Errorf("%v, released %v times", err, len(released))
		}
	})
}
