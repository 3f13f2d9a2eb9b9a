package httpapi

import (
	"context"
	"errors"
	"io"
	"iter"
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

// TestRemovedTokenGetsNothingAfterAWait removes the token of a request while it waits.
func TestRemovedTokenGetsNothingAfterAWait(t *testing.T) {
	for request, released := range map[string]int{
		"POST /v1/locks/x?wait=1h": 1, "POST /v1/locks/x?hold&wait=1h": 1,
		"POST /v1/claims/web?wait=10m": 1, "POST /v1/claims/web?hold&wait=10m": 1,
		"GET /v1/kv/app/a?index=7&wait=10m": 0, "GET /v1/kv/app/?recurse&index=7&wait=10m": 0, "GET /v1/kv?recurse&index=7&wait=10m": 0,
		"GET /v1/services/web?index=1&wait=10m": 0,
	} {
		t.Run(request, func(t *testing.T) {
			guard, grants := authenticator(policy(t, "", "all")), 0
			w := tokenRemoval{remove: func() { guard.Set(policy(t, "take", "read")) }, released: &grants}
			f := withWebs(1)
			a := f.api(t, Options{Access: guard}, func(b *Backends) {
				b.Locks, b.Claims, b.KV, b.Catalog = waitingLocks{tokenRemoval: w}, waitingClaims{tokenRemoval: w}, &waitingKV{tokenRemoval: w, index: 7}, waitingCatalog{f, w}
			})
			method, path, _ := strings.Cut(request, " ")
			answer := ask(a, method, path, "all", nil, func(r *http.Request) { *r = *r.WithContext(t.Context()) })
			if answer.Code != 401 || grants != released {
				t.Errorf("%d, released %d times: %s", answer.Code, grants, answer.Body)
			}
		})
	}
}

// tokenRemoval is what happens while a request waits.
type tokenRemoval struct {
	remove   func()
	released *int
}

func (r tokenRemoval) release() (bool, error) {
	*r.released++
	return true, nil
}

// lostAtOnce ends the answer of a grant that is held, if there is one.
func lostAtOnce() <-chan struct{} {
	lost := make(chan struct{})
	close(lost)
	return lost
}

type waitingLocks struct {
	absent
	tokenRemoval
}

func (w waitingLocks) Lock(context.Context, string, api.LockOptions) (api.Lock, <-chan struct{}, error) {
	w.remove()
	return api.Lock{Name: "x", ID: "l1"}, lostAtOnce(), nil
}

func (w waitingLocks) Unlock(context.Context, string, string) (bool, error) { return w.release() }

type waitingClaims struct {
	absent
	tokenRemoval
}

func (w waitingClaims) Claim(context.Context, string, api.ClaimOptions) (api.Claim, <-chan struct{}, error) {
	w.remove()
	return api.Claim{ID: "c1"}, lostAtOnce(), nil
}

func (w waitingClaims) ReleaseClaim(context.Context, string) (bool, error) { return w.release() }

// waitingKV has one item, which changes once it is waited for.
type waitingKV struct {
	emptyKV
	tokenRemoval
	index int64
}

func (w *waitingKV) view() KVFreshness {
	return KVFreshness{Revision: w.index, Epoch: "e1", Index: w.index}
}

func (w *waitingKV) Get(context.Context, string, api.KVRead) (api.KVItem, KVFreshness, error) {
	return api.KVItem{Key: "app/a", Revision: w.index}, w.view(), nil
}

func (w *waitingKV) List(context.Context, string, api.KVRead, bool) (iter.Seq[api.KVItem], KVFreshness, error) {
	return func(func(api.KVItem) bool) {}, w.view(), nil
}

func (w *waitingKV) AwaitChange(context.Context, string, KVFreshness) error {
	w.remove()
	w.index++
	return nil
}

// waitingCatalog changes once it is waited for.
type waitingCatalog struct {
	*fleet
	tokenRemoval
}

func (w waitingCatalog) Changed(service string) <-chan struct{} {
	w.remove()
	changed := w.fleet.Changed(service)
	w.put(web(2))
	return changed
}

// A blocking query for a key that is gone says so, also where it does not have to wait.
func TestBlockingQueryForAKeyThatIsGone(t *testing.T) {
	a := newFleet().api(t, Options{})
	if w := ask(a, "GET", "/v1/kv/a?index=5&wait=10m", "", nil); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
