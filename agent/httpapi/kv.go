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

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

const (
	kvPath  = "/v1/kv/"
	kvRoute = kvPath + "{key...}"
)

func (a *API) kvRoutes() []route {
	fresh := append([]string{"consistency", "min_rev", "max_age", "recurse", "keys"}, waitParams...)
	return []route{
		{method: "GET", path: "/v1/kv", params: append([]string{"key"}, fresh...), scope: access.KVRead, subject: anySubject, handle: a.kvGetMany},
		{method: "GET", path: kvRoute, params: slices.Concat(fresh, historyParams), scope: access.KVRead, subject: "key", handle: a.kvGet},
		{method: "PUT", path: kvRoute, params: []string{"ttl"}, scope: access.KV, subject: "key", body: api.MaxKVBody, handle: a.kvPut},
		{method: "DELETE", path: kvRoute, params: []string{"recurse"}, scope: access.KV, subject: "key", handle: a.kvDelete},
		{method: "POST", path: "/v1/kv", scope: access.KV, subject: anySubject, body: api.MaxKVBody, handle: a.kvBatch},
	}
}

// checkKeyPath returns an error for a key that the mux would change: it redirects a//b to
// a/b.
func checkKeyPath(p string) error {
	key, ok := strings.CutPrefix(p, kvPath)
	if ok && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return invalid("key %.60q has an empty segment, or \".\" or \"..\"; separate segments with one \"/\"", key)
	}
	return nil
}

// kvGet answers with the value of a key, also an earlier one, its history, the items below
// a prefix, or the changes of either.
func (a *API) kvGet(w http.ResponseWriter, r request) error {
	if r.query.asksForPast() {
		return a.kvPast(w, r, r.PathValue("key"))
	}
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
		return invalid("%q is a prefix; add ?recurse or ?keys to read the keys below it", what)
	}
	var item api.KVItem
	view, err := a.kvRead(r, what, func() (view KVFreshness, err error) {
		item, view, err = a.backends.KV.Get(r.Context(), what, q.read)
		return view, err
	})
	header := kvHeaderOf(view)
	if err != nil {
		if view.Revision > 0 {
			header.set(w.Header())
		}
		return err
	}
	header.etag.text = api.KVTag(item.Revision)
	return a.writeView(w, r, header, binaryType, func() ([]byte, error) { return item.Value, nil })
}

// kvList answers with the items below a prefix, or with their keys.
func (a *API) kvList(w http.ResponseWriter, r request, prefix string, q kvQuery) error {
	var items iter.Seq[api.KVItem]
	view, err := a.kvRead(r, prefix, func() (view KVFreshness, err error) {
		items, view, err = a.backends.KV.List(r.Context(), prefix, q.read, q.keys)
		return view, err
	})
	if err != nil {
		return err
	}
	header := kvHeaderOf(view)
	if view.Epoch != "" {
		header.etag.text = `"` + discovery.Cursor{Epoch: view.Epoch, Revision: view.Index}.String() + `"`
	}
	return a.writeView(w, r, header, jsonType, func() ([]byte, error) {
		if q.keys {
			return encodeKeys(items), nil
		}
		return encode(collect(items))
	})
}

// encodeKeys returns the keys of items as encode does. It is fast enough for a million.
func encodeKeys(items iter.Seq[api.KVItem]) []byte {
	b := []byte{'['}
	for i := range items {
		b = append(appendString(b, i.Key), ',')
	}
	return append(bytes.TrimSuffix(b, []byte{','}), "]\n"...)
}

// appendString appends a string in JSON.
func appendString(b []byte, s string) []byte {
	for n := range len(s) {
		if c := s[n]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			quoted, err := encode(s)
			if err != nil {
				panic(err) // a string can always be encoded
			}
			return append(b, bytes.TrimSuffix(quoted, []byte{'\n'})...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// kvGetMany answers with those of the named keys that exist; without names, with all
// items, or their changes.
func (a *API) kvGetMany(w http.ResponseWriter, r request) error {
	names, events := r.query.Values["key"], wantsEvents(r.Header.Get("Accept"))
	if events && len(names) > 0 {
		return invalid("a stream of events names its key or directory in the path; leave out key")
	}
	if err := r.mayUse(access.KVRead, names); err != nil {
		return err
	}
	if events {
		return a.kvWatch(w, r, "")
	}
	q, err := r.query.kvQuery()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if !q.recurse && !q.keys {
			return invalid("name the keys to read as ?key=a&key=b, or add ?recurse or ?keys to read all")
		}
		return a.kvList(w, r, "", q)
	}
	if q.recurse || q.keys || r.query.Has("index") || r.query.Has("wait") {
		return invalid("key cannot be combined with recurse, keys, index or wait")
	}
	items, view, err := a.backends.KV.GetMany(r.Context(), names, q.read)
	if err != nil {
		return err
	}
	view.Index = view.Revision
	return a.writeView(w, r, kvHeaderOf(view), jsonType, func() ([]byte, error) { return encode(collect(items)) })
}

func collect(items iter.Seq[api.KVItem]) []api.KVItem {
	return slices.AppendSeq([]api.KVItem{}, items)
}

// kvRead calls read, which reads a key or below a prefix. Where the caller asks for it, kvRead
// repeats that after each change until the index differs from the caller's, and once more when
// the caller's time is over.
func (a *API) kvRead(r request, what string, read func() (KVFreshness, error)) (KVFreshness, error) {
	known, wait, err := r.query.wait()
	if err != nil {
		return KVFreshness{}, err
	}
	view, err := read()
	if wait == 0 {
		return view, err
	}
	end, refused := a.admit(r, a.reads)
	if refused != nil {
		return KVFreshness{}, refused
	}
	defer end()
	defer a.metrics.streaming("wait")()
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	stop := a.cancelAtEnd(ctx, cancel)
	defer stop()
	for err == nil || errors.Is(err, discovery.ErrNotFound) {
		since, changed := sinceIndex(view, known)
		if changed {
			break
		}
		ended := a.backends.KV.AwaitChange(ctx, what, since) != nil
		if ended && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			break // the caller is gone, or the API ends
		}
		if view, err = read(); ended || view.Index != since.Index {
			break
		}
	}
	if denied := a.recheck(r); denied != nil {
		return KVFreshness{}, denied
	}
	return view, err
}

// maxLookBack is how many of etcd's revisions are looked through for a change at most.
const maxLookBack = 10_000

// sinceIndex returns the freshness from which on a change is awaited, or that there may have been
// one since the caller's index. The index of a list that etcd has answered is etcd's revision,
// which rises with each write to any key.
func sinceIndex(view KVFreshness, known int64) (since KVFreshness, changed bool) {
	behind := view.Index - known
	switch {
	case behind == 0:
		return view, false
	case view.Epoch == "" && view.Index == view.Revision && known > 0 && 0 < behind && behind <= maxLookBack:
		return KVFreshness{Revision: known, Index: known}, false
	}
	return KVFreshness{}, true
}

// cancelAtEnd calls cancel when waits and streams are to end. stop is to be called after the end of
// ctx.
func (a *API) cancelAtEnd(ctx context.Context, cancel func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-a.streamsEnded:
			cancel()
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// kvQuery are the options of a read.
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
