package httpapi

import (
	"context"
	"errors"
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
