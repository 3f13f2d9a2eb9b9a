package httpapi

import (
	"context"
	"iter"
	"net/http"
	"testing"

	"disc/agent/api"
	"disc/discovery"
)

// emptyKV has no items, and signals each call of Events.
type emptyKV struct{ asked chan struct{} }

func (emptyKV) Get(context.Context, string, api.KVRead) (api.KVItem, KVFreshness, error) {
	return api.KVItem{}, KVFreshness{}, discovery.ErrNotFound
}

func (emptyKV) GetCached(string) (api.KVItem, KVFreshness, bool) {
	return api.KVItem{}, KVFreshness{}, false
}

func (emptyKV) GetAt(context.Context, string, int64) (api.KVItem, KVFreshness, error) {
	return api.KVItem{}, KVFreshness{}, discovery.ErrNotFound
}

func (emptyKV) History(context.Context, string, api.KVHistoryOptions) (api.KVHistory, KVFreshness, error) {
	return api.KVHistory{}, KVFreshness{}, discovery.ErrNotFound
}

func (emptyKV) List(context.Context, string, api.KVRead, bool) (iter.Seq[api.KVItem], KVFreshness, error) {
	return nil, KVFreshness{}, discovery.ErrUnavailable
}

func (emptyKV) GetMany(context.Context, []string, api.KVRead) (iter.Seq[api.KVItem], KVFreshness, error) {
	return nil, KVFreshness{}, discovery.ErrUnavailable
}

func (emptyKV) AwaitChange(ctx context.Context, _ string, _ KVFreshness) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (emptyKV) Watch(string) (release func()) { return func() {} }

func (emptyKV) Snapshot(context.Context, string) (iter.Seq[api.KVItem], KVFreshness, error) {
	return func(func(api.KVItem) bool) {}, KVFreshness{Revision: 1, Epoch: "e1"}, nil
}

func (emptyKV) Write(context.Context, ...api.KVOp) (int64, error) { return 2, nil }

func (emptyKV) DeleteBelow(context.Context, string) (int64, error) { return 2, nil }

func (k emptyKV) Events(_ string, after discovery.Cursor) ([]api.KVEvent, discovery.Cursor, bool) {
	select {
	case k.asked <- struct{}{}:
	default:
	}
	return nil, after, true
}

func (emptyKV) Changed() <-chan struct{} { return make(chan struct{}) }

// A watch keeps reading while nothing changes: the agent drops copies that are not read.
func TestWatchOfKeysKeepsThemCopied(t *testing.T) {
	quiet := emptyKV{make(chan struct{}, 3)}
	a := newFleet().api(t, Options{}, func(b *Backends) { b.KV = quiet })
	a.timeouts.keepalive = 1e6
	s := serve(t, a)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/v1/kv/app/", "/v1/kv/app/a", "/v1/kv"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.BaseURL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", api.TypeEvents)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for range cap(quiet.asked) {
			<-quiet.asked
		}
		resp.Body.Close()
	}
}
