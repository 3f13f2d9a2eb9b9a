package httpapi

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"disc/agent/api"
	"disc/discovery"
)

// KV reads and writes shared key/value state. A prefix is empty or ends in "/".
type KV interface {
	// Get reads a key. ErrNotFound, with its view: it is not there. ErrUnavailable: it
	// cannot be read, or not as fresh as it is asked for.
	Get(ctx context.Context, key string, r api.KVRead) (api.KVItem, KVFreshness, error)

	// GetCached reads a key that the agent has a copy of, with as little care as a Get that
	// asks for none. It does not wait, and reports false where Get is to be asked.
	GetCached(key string) (api.KVItem, KVFreshness, bool)

	// List reads what lies below a prefix, sorted by key.
	List(ctx context.Context, prefix string, r api.KVRead) (iter.Seq[api.KVItem], KVFreshness, error)

	// Write makes all operations at once, or none, and returns etcd's revision. A
	// condition that does not hold is an ErrConflict that names the key.
	Write(ctx context.Context, ops ...api.KVOp) (int64, error)

	// DeleteBelow deletes all below a prefix, which is not empty, and returns etcd's revision.
	DeleteBelow(ctx context.Context, prefix string) (int64, error)

	// Snapshot returns what a watch of a key or below a prefix begins with; Events go on
	// from its view.
	Snapshot(ctx context.Context, what string) (iter.Seq[api.KVItem], KVFreshness, error)

	// Events returns what happened to a key or below a prefix after a position, and up to
	// where. ok is false when the reader has to start over from a list.
	Events(what string, after discovery.Cursor) (events []api.KVEvent, upTo discovery.Cursor, ok bool)

	// Changed returns a channel that is closed at the next change of what is copied.
	Changed() <-chan struct{}
}

// KVFreshness says how sure an answer is.
type KVFreshness struct {
	Revision int64
	Epoch    string // "": etcd was asked
	Index    int64  // another after each change of what was asked for
	Age      time.Duration
	Stale    bool
}

const typeValue = "application/octet-stream" // of a key's value

const (
	kvPath  = "/v1/kv/"
	kvRoute = kvPath + "{key...}"
)

func (a *API) kvRoutes() []route {
	fresh := append([]string{"consistency", "min_rev", "max_age", "recurse", "keys"}, waitParams...)
	return []route{
		{method: "GET", path: "/v1/kv", params: append([]string{"key"}, fresh...), handle: a.withKV(a.kvGetMany)},
		{method: "GET", path: kvRoute, params: fresh, handle: a.withKV(a.kvGet)},
		{method: "PUT", path: kvRoute, params: []string{"ttl"}, write: true, handle: a.withKV(a.kvPut)},
		{method: "DELETE", path: kvRoute, params: []string{"recurse"}, write: true, handle: a.withKV(a.kvDelete)},
		{method: "POST", path: "/v1/kv", write: true, handle: a.withKV(a.kvBatch)},
	}
}

// checkKeyPath returns an error for a key that the mux would take for another: it sends
// who asks for a//b to a/b.
func checkKeyPath(p string) error {
	key, ok := strings.CutPrefix(p, kvPath)
	if ok && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return invalid("key %.60q has an empty segment, or \".\" or \"..\"; divide segments by one \"/\"", key)
	}
	return nil
}

func (a *API) withKV(h handler) handler {
	return func(w http.ResponseWriter, r request) error {
		if a.options.KV == nil {
			return discovery.Errorf(discovery.ErrNotFound, "this agent keeps no key/value state")
		}
		return h(w, r)
	}
}

// kvGet answers a key's value, what lies below a prefix, or either's changes.
func (a *API) kvGet(w http.ResponseWriter, r request) error {
	q, err := r.query.kvQuery()
	if err != nil {
		return err
	}
	what := r.PathValue("key")
	switch {
	case wantsEvents(r.Header.Get("Accept")):
		return a.kvWatch(w, r, what)
	case q.recurse || q.keys:
		return a.kvList(w, r, what, q)
	case what == "" || strings.HasSuffix(what, "/"):
		return invalid("%q is a prefix; ask for what lies below it with ?recurse or ?keys", what)
	}
	var item api.KVItem
	view, err := a.kvRead(r, func() (view KVFreshness, err error) {
		item, view, err = a.options.KV.Get(r.Context(), what, q.read)
		return view, err
	})
	if view.Revision > 0 {
		setKVView(w.Header(), view)
	}
	if err != nil {
		return err
	}
	return a.write(w, r, content{body: item.Value, contentType: typeValue, etag: api.KVTag(item.Revision)})
}

// kvList answers what lies below a prefix, or only the keys.
func (a *API) kvList(w http.ResponseWriter, r request, prefix string, q kvQuery) error {
	var items iter.Seq[api.KVItem]
	view, err := a.kvRead(r, func() (view KVFreshness, err error) {
		items, view, err = a.options.KV.List(r.Context(), prefix, q.read)
		return view, err
	})
	if err != nil {
		return err
	}
	setKVView(w.Header(), view)
	c := content{contentType: api.TypeJSON}
	if view.Epoch != "" {
		c.etag = `"` + discovery.Cursor{Epoch: view.Epoch, Revision: view.Index}.String() + `"`
		if matches(r.Header["If-None-Match"], c.etag) {
			return a.write(w, r, c)
		}
	}
	if q.keys {
		c.body = encodeKeys(items)
	} else if c.body, err = encode(collect(items)); err != nil {
		return err
	}
	if c.etag == "" {
		c.etag = `"` + digest(c.body) + `"`
	}
	return a.write(w, r, c)
}

// encodeKeys writes keys as encode does, of which there may be a million.
func encodeKeys(items iter.Seq[api.KVItem]) []byte {
	b := []byte{'['}
	for i := range items {
		b = append(appendString(b, i.Key), ',')
	}
	return append(bytes.TrimSuffix(b, []byte{','}), "]\n"...)
}

// appendString appends a text as JSON.
func appendString(b []byte, s string) []byte {
	for n := range len(s) {
		if c := s[n]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			quoted, err := encode(s)
			if err != nil {
				panic(err) // every text can be
			}
			return append(b, bytes.TrimSuffix(quoted, []byte{'\n'})...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// kvGetMany answers the keys that are named, those of them that are there; or everything,
// or its changes.
func (a *API) kvGetMany(w http.ResponseWriter, r request) error {
	if wantsEvents(r.Header.Get("Accept")) {
		return a.kvWatch(w, r, "")
	}
	q, err := r.query.kvQuery()
	if err != nil {
		return err
	}
	names := r.query.Values["key"]
	if len(names) == 0 {
		if !q.recurse && !q.keys {
			return invalid("name the keys to read as ?key=a&key=b, or ask for everything with ?recurse or ?keys")
		}
		return a.kvList(w, r, "", q)
	}
	if q.recurse || q.keys || q.read.Wait.For > 0 {
		return invalid("key does not go with recurse, keys, index and wait")
	}
	found := []api.KVItem{}
	var oldest KVFreshness
	for _, name := range names {
		item, view, err := a.options.KV.Get(r.Context(), name, q.read)
		if err == nil {
			found = append(found, item)
		} else if !errors.Is(err, discovery.ErrNotFound) {
			return err
		}
		if oldest.Revision == 0 || view.Revision < oldest.Revision {
			oldest = view
		}
	}
	oldest.Index = oldest.Revision
	setKVView(w.Header(), oldest)
	body, err := encode(found)
	if err != nil {
		return err
	}
	return a.write(w, r, content{body: body, contentType: api.TypeJSON, etag: `"` + digest(body) + `"`})
}

func collect(items iter.Seq[api.KVItem]) []api.KVItem {
	return slices.AppendSeq([]api.KVItem{}, items)
}

// kvRead reads, again and again until the index is another than the caller's, if the
// caller asks for that.
func (a *API) kvRead(r request, read func() (KVFreshness, error)) (KVFreshness, error) {
	known, wait, err := r.query.wait()
	if err != nil {
		return KVFreshness{}, err
	}
	changed := a.options.KV.Changed()
	view, err := read()
	if wait == 0 {
		return view, err
	}
	defer a.metrics.streaming("wait")()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for (err == nil || errors.Is(err, discovery.ErrNotFound)) && view.Index == known {
		select {
		case <-changed:
		case <-timeout.C:
			return view, err
		case <-r.Context().Done():
			return view, err
		case <-a.ended:
			return view, err
		}
		changed = a.options.KV.Changed()
		view, err = read()
	}
	return view, err
}

func setKVView(h http.Header, v KVFreshness) {
	h.Set(api.HeaderRevision, strconv.FormatInt(v.Revision, 10))
	h.Set(api.HeaderIndex, strconv.FormatInt(v.Index, 10))
	h.Set(api.HeaderAge, strconv.FormatFloat(v.Age.Seconds(), 'f', 3, 64))
	if v.Stale {
		h[api.HeaderStale] = staleValue
	}
}

// kvQuery is how keys are to be read.
type kvQuery struct {
	read          api.KVRead
	recurse, keys bool
}

func (p params) kvQuery() (q kvQuery, err error) {
	if q.recurse, err = p.flag("recurse"); err != nil {
		return q, err
	}
	if q.keys, err = p.flag("keys"); err != nil {
		return q, err
	}
	switch c := p.Get("consistency"); c {
	case "", "default":
	case "linearizable":
		q.read.Linearizable = true
	default:
		return q, invalid("consistency %q is unknown; use linearizable, or leave it out for the agent's copy", c)
	}
	if q.read.MinRevision, err = number(p, "min_rev", parseRevision, 0); err != nil {
		return q, err
	}
	q.read.MaxAge, err = p.duration("max_age", 0, time.Millisecond, 24*time.Hour)
	return q, err
}

func parseRevision(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return n, err
}

func wantsEvents(accept string) bool {
	media, _, _ := strings.Cut(accept, ";")
	return strings.TrimSpace(media) == api.TypeEvents
}
