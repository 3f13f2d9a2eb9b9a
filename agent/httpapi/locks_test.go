package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"disc/agent/api"
)

// granter grants a lock or claim after it has called granted, and records what is released.
type granter struct {
	absent
	granted  func()
	released []string
}

func (g *granter) Lock(context.Context, string, api.LockOptions) (api.Lock, <-chan struct{}, error) {
	g.granted()
	return api.Lock{ID: "1-l", Name: "x", Fence: 1}, nil, nil
}

func (g *granter) Unlock(ctx context.Context, name, id string) (bool, error) {
	g.released = append(g.released, name+"/"+id)
	return true, ctx.Err()
}

func (g *granter) Claim(context.Context, string, api.ClaimOptions) (api.Claim, <-chan struct{}, error) {
	g.granted()
	return api.Claim{ID: "1-c", Service: "gpu", Fence: 1}, nil, nil
}

func (g *granter) ReleaseClaim(ctx context.Context, id string) (bool, error) {
	g.released = append(g.released, id)
	return true, ctx.Err()
}

// brokenWriter is a connection on which nothing can be sent.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) FlushError() error { return errors.New("broken pipe") }

// A lock or claim is released when its caller is gone before it has the answer.
func TestGrantOfGoneCallerIsReleased(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path string
		want string
	}{
		"lock":       {"/v1/locks/x?ttl=24h", "x/1-l"},
		"held lock":  {"/v1/locks/x?hold", "x/1-l"},
		"claim":      {"/v1/claims/gpu", "1-c"},
		"held claim": {"/v1/claims/gpu?hold", "1-c"},
	} {
		for how, gone := range map[string]struct{ hangsUp, breaks bool }{
			"hangs up": {hangsUp: true}, "cannot be reached": {breaks: true}, "is there": {},
		} {
			if how == "is there" && strings.HasSuffix(c.path, "hold") {
				continue // the answer does not end
			}
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				g := &granter{granted: func() {
					if gone.hangsUp {
						hangUp()
					}
				}}
				a := newFleet().api(t, Options{}, func(b *Backends) { b.Locks, b.Claims = g, g })
				answer := httptest.NewRecorder()
				var w http.ResponseWriter = answer
				if gone.breaks {
					w = brokenWriter{answer}
				}
				r := httptest.NewRequestWithContext(ctx, "POST", c.path, nil)
				r.Host = "localhost"
				a.ServeHTTP(w, r)
				want := []string{c.want}
				if how == "is there" {
					want = nil
				}
				if !slices.Equal(g.released, want) {
					t.Errorf("released %v, want %v", g.released, want)
				}
				if how == "is there" && (answer.Code != 201 || answer.Header().Get("Content-Length") == "") {
					t.Errorf("got %d, %v", answer.Code, answer.Header())
				}
			})
		}
	}
}

// breaker records how locks are broken.
type breaker struct {
	absent
	got []string
}

func (b *breaker) Break(_ context.Context, name string, o api.BreakOptions, ownOnly bool) (api.BrokenLock, error) {
	b.got = append(b.got, fmt.Sprintf("%s %q %v %v", name, o.Holder, o.Now, ownOnly))
	return api.BrokenLock{Name: name}, nil
}

// A lock is broken with the token, or without one if the agent has granted it, and only by
// force.
func TestBreakNeedsRights(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		token, send, query string
		status             int
		want               []string
	}{
		"without a token":  {query: "?force", status: 200, want: []string{`x "" false true`}},
		"with the token":   {token: "t", send: "Bearer t", query: "?force&now&holder=1-a", status: 200, want: []string{`x "1-a" true false`}},
		"with another":     {token: "t", send: "Bearer u", query: "?force", status: 401},
		"without force":    {query: "", status: 400},
		"force is false":   {query: "?force=false&now", status: 400},
		"now is something": {query: "?force&now=perhaps", status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o Options
			if c.token != "" {
				o.Access = withToken(c.token)
			}
			b := &breaker{}
			a := newFleet().api(t, o, func(all *Backends) { all.Locks = b })
			r := httptest.NewRequest("DELETE", "/v1/locks/x"+c.query, nil)
			r.Host = "localhost"
			r.Header.Set("Authorization", c.send)
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code != c.status || !slices.Equal(b.got, c.want) {
				t.Errorf("got %d, %v: %s", w.Code, b.got, w.Body)
			}
		})
	}
}
