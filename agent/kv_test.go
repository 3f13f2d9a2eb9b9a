package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/view"
)

// askKV sends a request to an agent, and returns the status and the body.
func (r *running) askKV(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.api.BaseURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := r.api.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// Every agent reads from its memory what any other writes.
func TestKeyValueState(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	one, two := start(t, settings(t, etcd.Endpoint(), "")), start(t, settings(t, etcd.Endpoint(), "node: n2"))
	ctx := t.Context()
	if _, _, err := two.api.KVGet(ctx, "app/a", api.KVRead{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Fatal(err)
	}
	first, err := one.api.KVPut(ctx, "app/a", []byte("\x00 1"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	item, view, err := two.api.KVGet(ctx, "app/a", api.KVRead{MinRevision: first})
	if err != nil || string(item.Value) != "\x00 1" || item.Revision != first || view.ETag != api.KVTag(first) {
		t.Errorf("%+v %+v %v", item, view, err)
	}
	if _, err := one.api.KVPut(ctx, "app/a", []byte("2"), 0, new(int64)); !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), `"app/a"`) {
		t.Errorf("as if it were new: %v", err)
	}
	second, err := one.api.KVWrite(ctx, []api.KVOp{
		{Op: api.KVPut, Key: "app/a", Value: []byte("2"), IfRevision: &first},
		{Op: api.KVPut, Key: "app/b", Value: []byte("2"), TTL: discovery.Duration(time.Minute)},
	})
	if err != nil {
		t.Fatal(err)
	}
	items, _, err := two.api.KVList(ctx, "app/", api.KVRead{MinRevision: second})
	if err != nil || len(items) != 2 || string(items[0].Value) != "2" || !items[1].Expires || items[0].Created != first {
		t.Errorf("%+v %v", items, err)
	}
	last, err := one.api.KVDelete(ctx, "app/a", &second)
	if err != nil {
		t.Fatal(err)
	}
	if items, _, err := two.api.KVList(ctx, "", api.KVRead{MinRevision: last}); err != nil || len(items) != 1 {
		t.Errorf("%+v %v", items, err)
	}
}

func TestKeyValueOverHTTP(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	put, _ := a.askKV(t, "PUT", "/v1/kv/app/a", "1")
	tag := put.Header.Get("Etag")
	since := "min_rev=" + put.Header.Get(api.HeaderRevision)
	for _, test := range []struct {
		request, body, header, value string
		status                       int
		want                         string
	}{
		{"GET /v1/kv/app/a?" + since, "", "", "", 200, "1"},
		{"GET /v1/kv/app%2Fa", "", "", "", 200, "1"},
		{"GET /v1/kv/app/a", "", "If-None-Match", tag, 304, ""},
		{"GET /v1/kv/app/a?consistency=linearizable", "", "", "", 200, "1"},
		{"GET /v1/kv/app/a?consistency=eventual", "", "", "", 400, "use linearizable"},
		{"GET /v1/kv/app/a?max_age=1h", "", "", "", 200, "1"},
		{"GET /v1/kv/app/?keys", "", "", "", 200, `["app/a"]`},
		{"GET /v1/kv?keys", "", "", "", 200, `["app/a"]`},
		{"GET /v1/kv/app?keys", "", "", "", 400, "does not end in"},
		{"GET /v1/kv?key=app/a&key=app/b", "", "", "", 200, `"value":"MQ=="`},
		{"GET /v1/kv", "", "", "", 400, "name the keys"},
		{"GET /v1/kv?key=app/a&index=1", "", "", "", 400, "cannot be combined"},
		{"GET /v1/kv?key=app/a&key=app//b", "", "", "", 400, "empty segment"},
		{"GET /v1/kv/app/", "", "", "", 400, "add ?recurse or ?keys"},
		{"GET /v1/kv/", "", "", "", 400, "add ?recurse or ?keys"},
		{"PUT /v1/kv/app//a", "2", "", "", 400, "empty segment"},
		{"PUT /v1/kv/app/%2e%2e/a", "2", "", "", 400, "empty segment"},
		{"GET /v1/kv//?keys", "", "", "", 400, "empty segment"},
		{"GET /v1/kv/app/a?min_rev=99999", "", "", "", 503, "never answered"},
		{"GET /v1/kv/app/b", "", "", "", 404, "is not there"},
		{"PUT /v1/kv/app/a", "2", "If-None-Match", "*", 412, "is at revision"},
		{"PUT /v1/kv/app/b", "2", "If-Match", "*", 412, "is not there"},
		{"PUT /v1/kv/app/a", "2", "If-Match", "x", 400, "not the tag of a key"},
		{"PUT /v1/kv/app/a", "2", "If-Match", tag, 200, ""},
		{"DELETE /v1/kv/app/a", "", "If-Match", tag, 412, "is at revision"},
		{"PUT /v1/kv/app/a?ttl=1ms", "2", "", "", 400, "ttl"},
		{"PUT /v1/kv/app/a", strings.Repeat("x", api.MaxKVValue+1), "", "", 413, "at most 524288"},
		{"PUT /v1/kv/app/a", strings.Repeat("x", api.MaxKVBody+1), "", "", 413, "larger than"},
		{"PUT /v1/kv/app/", "x", "", "", 400, "is a prefix"},
		{"POST /v1/kv", `{"ops":[{"op":"put","key":"a","value":"MQ=="},{"op":"delete","key":"a"}]}`, "", "", 400, "twice"},
		{"POST /v1/kv", `[]`, "", "", 400, "not a JSON object"},
		{"POST /v1/kv", `{"ops":[{"op":"put","key":"a","value":"?"}]}`, "", "", 400, "not base64"},
		{"POST /v1/kv", ops(65, 1), "", "", 400, "65 operations"},
		{"POST /v1/kv", ops(3, 400<<10), "", "", 413, "at most 1048576"},
		{"POST /v1/kv", ops(1, api.MaxKVValue+1), "", "", 413, "at most 524288"},
		{"POST /v1/kv", ops(64, 8<<10), "", "", 200, `"revision":`},
		{"DELETE /v1/kv/many/?recurse", "", "If-Match", tag, 400, "cannot be combined with recurse"},
		{"DELETE /v1/kv/many/?recurse", "", "", "", 200, ""},
		{"DELETE /v1/kv/?recurse", "", "", "", 400, "the prefix is empty"},
		{"GET /v1/kv?keys&consistency=linearizable", "", "", "", 200, `["app/a"]`},
		{"POST /v1/kv", `{"ops":[{"op":"steal","key":"a"}]}`, "", "", 400, "use put or delete"},
		{"POST /v1/kv", `{"ops":[{"op":"put","key":"a","value":"MQ==","if_revision":7}]}`, "", "", 412, "is not there"},
		{"POST /v1/kv", `{"ops":[{"op":"put","key":"b","value":"MQ==","if_revision":0}]}`, "", "", 200, `"revision":`},
	} {
		method, path, _ := strings.Cut(test.request, " ")
		header := []string{}
		if test.header != "" {
			header = []string{test.header, test.value}
		}
		resp, body := a.askKV(t, method, path, test.body, header...)
		if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %.200s; want %d, %s", test.request, resp.StatusCode, body, test.status, test.want)
		}
	}
}

// ops returns a batch of n writes with values of a size.
func ops(n, size int) string {
	batch := api.KVBatch{}
	for i := range n {
		batch.Ops = append(batch.Ops, api.KVOp{Op: api.KVPut, Key: fmt.Sprintf("many/%d", i), Value: make([]byte, size)})
	}
	b, err := json.Marshal(batch)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// A blocking query that asks etcd itself answers with the change when it comes, also in a
// directory that the agent has no copy of, and otherwise when its time is over.
func TestKeyValueWaitsForEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	ctx := t.Context()
	for _, key := range []string{"copied/a", "not/a"} {
		if _, err := a.api.KVPut(ctx, key, []byte("1"), 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.api.KVGet(ctx, "copied/a", api.KVRead{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"copied/a", "not/a", "not/there"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			read := api.KVRead{Linearizable: true}
			before, _, err := a.api.KVGet(t.Context(), key, read)
			if err != nil && !errors.Is(err, discovery.ErrNotFound) {
				t.Fatal(err)
			}
			read.Wait = api.Wait{Index: before.Revision, For: 50 * time.Millisecond}
			if after, _, err := a.api.KVGet(t.Context(), key, read); after.Revision != before.Revision || err != nil && !errors.Is(err, discovery.ErrNotFound) {
				t.Errorf("%+v, %v; nothing has changed", after, err)
			}
			read.Wait.For = 5 * time.Minute
			waited := make(chan api.KVItem, 1)
			go func() {
				item, _, err := a.api.KVGet(t.Context(), key, read)
				if err != nil {
					t.Error(err)
				}
				waited <- item
			}()
			revision, err := a.api.KVPut(t.Context(), key, []byte("2"), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			if item := <-waited; item.Revision != revision || string(item.Value) != "2" {
				t.Errorf("%+v, want revision %d", item, revision)
			}
		})
	}
}

// A blocking query of a list from etcd is not ended by writes to other keys.
func TestListWaitsForItsKeys(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	revision, err := a.api.KVPut(t.Context(), "app/a", []byte("1"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.api.KVPut(t.Context(), "other/a", []byte("1"), 0, nil); err != nil {
		t.Fatal(err)
	}
	const wait = 300 * time.Millisecond
	path := fmt.Sprintf("/v1/kv/app/?recurse&consistency=linearizable&index=%d&wait=", revision)
	began := time.Now()
	if resp, body := a.askKV(t, "GET", path+wait.String(), ""); resp.StatusCode != http.StatusOK || time.Since(began) < wait {
		t.Errorf("%d %s after %v, want the same list after %v", resp.StatusCode, body, time.Since(began), wait)
	}
	if _, err := a.api.KVPut(t.Context(), "app/a", []byte("2"), 0, nil); err != nil {
		t.Fatal(err)
	}
	if resp, body := a.askKV(t, "GET", path+"5m", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"Mg=="`) {
		t.Errorf("%d %s, want the changed list", resp.StatusCode, body)
	}
}

// Keys that are written together are read together, and the answer's revision is not below
// theirs.
func TestKeyValuePairs(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	write := func(n int) {
		op := api.KVOp{Op: api.KVPut, Value: []byte(strconv.Itoa(n))}
		one, two := op, op
		one.Key, two.Key = "one/a", "two/a"
		if _, err := a.api.KVWrite(t.Context(), []api.KVOp{one, two}); err != nil {
			t.Error(err)
		}
	}
	write(0)
	var running sync.WaitGroup
	done := make(chan struct{})
	for _, query := range []string{"", "&consistency=linearizable"} {
		running.Go(func() {
			for {
				resp, body := a.askKV(t, "GET", "/v1/kv?key=one/a&key=two/a"+query, "")
				var items []api.KVItem
				revision, err := strconv.ParseInt(resp.Header.Get(api.HeaderRevision), 10, 64)
				if err := errors.Join(err, json.Unmarshal([]byte(body), &items)); err != nil || len(items) != 2 {
					t.Errorf("%s: %v %s", query, err, body)
				} else if items[0].Revision != items[1].Revision || items[0].Revision > revision {
					t.Errorf("%s: at revision %d: %+v", query, revision, items)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range 200 {
		write(n + 1)
	}
	close(done)
	running.Wait()
}

// A list's ETag stays the same until something below the prefix changes.
func TestKeyValueListsHaveTags(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	odd := "app/<\u2028ü \"%2F\\"
	for _, key := range []string{"app/a", odd} {
		if _, err := a.api.KVPut(t.Context(), key, nil, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	keys, view, err := a.api.KVKeys(t.Context(), "app/", api.KVRead{})
	if err != nil || !slices.Equal(keys, []string{odd, "app/a"}) {
		t.Fatalf("%q %v", keys, err)
	}
	if resp, _ := a.askKV(t, "GET", "/v1/kv/app/?keys", "", "If-None-Match", view.ETag); resp.StatusCode != http.StatusNotModified {
		t.Errorf("the same: %s", resp.Status)
	}
	revision, err := a.api.KVDeleteBelow(t.Context(), "app/")
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/v1/kv/app/?keys&min_rev=%d", revision)
	if resp, body := a.askKV(t, "GET", path, "", "If-None-Match", view.ETag); resp.StatusCode != http.StatusOK || body != "[]\n" {
		t.Errorf("another: %s %s", resp.Status, body)
	}
}

// A blocking query answers when its keys change; a watch has an event for each change.
func TestKeyValueChanges(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	ctx := t.Context()
	watched, stop := iter.Pull2(a.api.KVWatch(ctx, "app/", ""))
	defer stop()
	next := func(kind view.EventType) api.KVEvent {
		t.Helper()
		e, err, ok := watched()
		if err != nil || !ok || e.Type != kind {
			t.Fatalf("%+v, %v; want %s", e, err, kind)
		}
		return e
	}
	if e := next("reset"); len(e.Items) != 0 {
		t.Errorf("%+v", e)
	}
	waited := make(chan api.KVItem, 1)
	go func() {
		item, _, err := a.api.KVGet(ctx, "app/a", api.KVRead{Wait: api.Wait{For: time.Minute}})
		if err != nil {
			t.Error(err)
		}
		waited <- item
	}()
	revision, err := a.api.KVPut(ctx, "app/a", []byte("1"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if item := <-waited; item.Revision != revision {
		t.Errorf("%+v, want revision %d", item, revision)
	}
	if e := next("put"); e.Key != "app/a" || e.Revision != revision || string(e.Item.Value) != "1" {
		t.Errorf("%+v", e)
	}
	if _, err := a.api.KVDelete(ctx, "app/a", nil); err != nil {
		t.Fatal(err)
	}
	last := next("delete")
	if last.Key != "app/a" || last.Item != nil {
		t.Errorf("%+v", last)
	}
	if _, err := a.api.KVPut(ctx, "app/b", nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	for e, err := range a.api.KVWatch(ctx, "app/", last.Cursor) { // as after a lost connection
		if err != nil || e.Type != view.EventPut || e.Key != "app/b" {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
}
