package httpapi

import (
	"context"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// pastKV has one item now, and another one at revision 5.
type pastKV struct {
	fixedKV
	asked api.KVHistoryOptions // of the last history
}

func (k *pastKV) GetAt(_ context.Context, key string, revision int64) (api.KVItem, KVFreshness, error) {
	switch revision {
	case 5:
		return api.KVItem{Key: key, Value: []byte("old"), Revision: 4}, KVFreshness{Revision: 9, Index: 4}, nil
	case 3:
		return api.KVItem{}, KVFreshness{Revision: 9}, discovery.Errorf(discovery.ErrNotFound, "was not there")
	case 2:
		return api.KVItem{}, KVFreshness{Revision: 9}, discovery.Errorf(discovery.ErrNotFound, "compacted")
	}
	return api.KVItem{}, KVFreshness{}, discovery.Errorf(discovery.ErrInvalid, "etcd is at revision 9")
}

func (k *pastKV) History(_ context.Context, key string, o api.KVHistoryOptions) (api.KVHistory, KVFreshness, error) {
	k.asked = o
	if o.From == 2 {
		return api.KVHistory{}, KVFreshness{Revision: 9}, discovery.Errorf(discovery.ErrNotFound, "compacted")
	}
	return api.KVHistory{Key: key, Older: api.KVOlderCompacted, Versions: []api.KVVersion{
		{Revision: 8, Value: []byte{}, Created: 8, Number: 1, Expires: true, ExpiresIn: discovery.Duration(time.Minute)},
		{Revision: 6, Deleted: true},
		{Revision: 4, Value: []byte("old"), Created: 2, Number: 2},
	}}, KVFreshness{Revision: 9, Index: 8}, nil
}

func TestEarlierValues(t *testing.T) {
	t.Parallel()
	k := &pastKV{fixedKV: fixedKV{item: api.KVItem{Key: "app/a", Value: []byte("new"), Revision: 8}, view: KVFreshness{Revision: 9, Index: 8}}}
	s := serve(t, newFleet().api(t, Options{}, func(b *Backends) { b.KV = k }))
	s.want("GET /v1/kv/app/a", "", 200, "new")
	got := s.want("GET /v1/kv/app/a?rev=5", "", 200, "old")
	// A value must not become a script of the page, which is of the same origin.
	if h := got.Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Etag") != `"4"` || h.Get(api.HeaderIndex) != "4" || h.Get(api.HeaderRevision) != "9" {
		t.Errorf("%v", h)
	}
	s.do("GET /v1/kv/app/a?rev=5", "", `If-None-Match: "4"`).want(t, 304)
	if h := s.want("GET /v1/kv/app/a?rev=3", "", 404, "was not there").Header; h.Get(api.HeaderRevision) != "9" {
		t.Errorf("%v", h)
	}
	s.want("GET /v1/kv/app/a?rev=2", "", 404, "compacted")
	s.want("GET /v1/kv/app/a?rev=10", "", 400, "etcd is at revision 9")

	const history = `{"key":"app/a","versions":[{"revision":8,"value":"","created":8,"number":1,"expires":true,"expires_in":"1m"},` +
		`{"revision":6,"deleted":true},{"revision":4,"value":"b2xk","created":2,"number":2}],"older":"compacted"}`
	got = s.want("GET /v1/kv/app/a?history", "", 200, history)
	if want := (api.KVHistoryOptions{Max: api.DefaultKVVersions}); k.asked != want || got.Header.Get(api.HeaderRevision) != "9" || got.Header.Get(api.HeaderIndex) != "8" {
		t.Errorf("%+v, %v", k.asked, got.Header)
	}
	s.want("GET /v1/kv/app/a?history&rev=5&max=3", "", 200, history)
	if want := (api.KVHistoryOptions{From: 5, Max: 3}); k.asked != want {
		t.Errorf("%+v", k.asked)
	}
	s.want("GET /v1/kv/app/a?history&rev=2", "", 404, "compacted")
	s.want("GET /v1/kv/app/a?rev=5&history=false", "", 200, "old")
}

func TestBadQueriesOfEarlierValues(t *testing.T) {
	t.Parallel()
	s := serve(t, newFleet().api(t, Options{}, func(b *Backends) { b.KV = &pastKV{} }))
	for query, why := range map[string]string{
		"rev=5&recurse":                  "recurse cannot be combined with rev or history",
		"history&keys":                   "keys cannot be combined",
		"rev=5&consistency=linearizable": "consistency cannot be combined",
		"rev=5&min_rev=5":                "min_rev cannot be combined",
		"rev=5&max_age=1s":               "max_age cannot be combined",
		"history&index=5":                "index cannot be combined",
		"rev=5&max=3":                    "max is for ?history",
		"rev=x":                          `rev \"x\" is not a number in range`,
		"rev=-1":                         `rev \"-1\" is not a number in range`,
		"history&max=x":                  `max \"x\" is not a number in range`,
		"history=maybe":                  "neither true nor false",
	} {
		t.Run(query, func(t *testing.T) { s.in(t).want("GET /v1/kv/app/a?"+query, "", 400, why) })
	}
	s.want("GET /v1/kv/app/?rev=5", "", 400, "is a prefix; rev and history are for one key")
	s.want("GET /v1/kv?rev=5", "", 400, "unknown query parameter rev")
	s.do("GET /v1/kv/app/a?history", "", "Accept: text/event-stream").want(t, 400, "cannot begin at an earlier revision")
}
