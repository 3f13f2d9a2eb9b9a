package agent_test

import (
	"bufio"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// ready waits until the agent has a view, with which its history begins.
func (r *running) ready(t *testing.T) {
	t.Helper()
	retrytest.Succeeds(t, func() error { return r.api.Ready(t.Context()) })
}

// withoutGaps returns changes but for gaps: a slow etcd may not answer the watch in time.
func withoutGaps(changes []discovery.Change) []discovery.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c discovery.Change) bool { return c.Change == discovery.ChangeGap })
}

// seen waits until the agent's history of an instance ends with a change, and returns it without gaps.
func (r *running) seen(t *testing.T, service, id string, kind discovery.ChangeKind) api.History {
	t.Helper()
	var h api.History
	retrytest.Eventually(t, id+" "+string(kind), func() bool {
		h = etcdtest.Must(r.api.History(t.Context(), api.HistoryQuery{Service: service, ID: id}))
		h.Changes = withoutGaps(h.Changes)
		return len(h.Changes) > 0 && h.Changes[len(h.Changes)-1].Change == kind
	})
	return h
}

func TestHistory(t *testing.T) {
	t.Parallel()
	a := start(t, settings(t, etcdtest.Start(t).Endpoint(), ""))
	a.checked(t)
	a.ready(t)
	ctx := t.Context()
	a.register(t, "web-1")
	a.register(t, "web-2")
	a.seen(t, "web", "web-1", discovery.ChangeAdded)
	if _, err := a.api.Deregister(ctx, "web", "web-1"); err != nil {
		t.Fatal(err)
	}
	h := a.seen(t, "Web", "web-1", discovery.ChangeGone)
	last := h.Changes[len(h.Changes)-1]
	told := last.Reason == discovery.ReasonLeft && strings.Contains(last.Why, "deregistered it")
	if all := etcdtest.Must(a.api.History(ctx, api.HistoryQuery{})).Changes; last.Listed && len(withoutGaps(all)) < len(all) {
		told = true // found by comparing
	}
	if !told || h.Begins == nil || !h.Watched || h.Truncated {
		t.Errorf("%+v", h)
	}
	newest := etcdtest.Must(a.api.History(ctx, api.HistoryQuery{Limit: 1}))
	if len(newest.Changes) != 1 || !newest.Truncated || newest.Changes[0].Cursor != newest.End {
		t.Errorf("%+v", newest)
	}
	before := etcdtest.Must(a.api.History(ctx, api.HistoryQuery{Before: newest.End, Limit: 1}))
	after := etcdtest.Must(a.api.History(ctx, api.HistoryQuery{After: before.Changes[0].Cursor}))
	if len(after.Changes) == 0 || after.Changes[0].Cursor != newest.End || len(withoutGaps(after.Changes)) > 1 {
		t.Errorf("%+v after %+v", after, before)
	}
	if none := etcdtest.Must(a.api.History(ctx, api.HistoryQuery{Until: "1h"})); len(none.Changes) != 0 || none.Begins == nil {
		t.Errorf("%+v", none)
	}
	if all := etcdtest.Must(a.api.History(ctx, api.HistoryQuery{Since: "1h", Until: "2126-01-31T12:00:00Z"})); len(all.Changes) < 4 {
		t.Errorf("%+v", all)
	}
	for _, bad := range []api.HistoryQuery{{ID: "web-1"}, {Service: "web/1"}, {Since: "-1m"}, {Until: "noon"}, {Limit: api.MaxHistoryLimit + 1}, {Before: "3-other"}, {After: "?"}} {
		if _, err := a.api.History(ctx, bad); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestHistoryIsOff(t *testing.T) {
	t.Parallel()
	a := start(t, settings(t, etcdtest.Start(t).Endpoint(), "catalog: {history_bytes: 0}\n"))
	a.checked(t)
	a.register(t, "web-1")
	if _, err := a.api.History(t.Context(), api.HistoryQuery{}); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), "catalog.history_bytes") {
		t.Errorf("%v", err)
	}
}

// events opens a stream of changes, and returns a function that returns the next event as
// "id event data".
func (r *running) events(t *testing.T, query, lastID string) func() (id, kind, data string) {
	t.Helper()
	req := etcdtest.Must(http.NewRequestWithContext(t.Context(), http.MethodGet, r.api.BaseURL+"/v1/history"+query, nil))
	req.Header.Set("Accept", api.TypeEvents)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp := etcdtest.Must(http.DefaultClient.Do(req))
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() (id, kind, data string) {
		t.Helper()
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				id = value
			case "event":
				kind = value
			case "data":
				data = value
			case "":
				if data != "" && !strings.Contains(data, `"change":"gap"`) {
					return id, kind, data
				}
				id, kind, data = "", "", ""
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return "", "", ""
	}
}

// A stream of changes goes on after a cursor, and says where it cannot.
func TestHistoryAsEvents(t *testing.T) {
	t.Parallel()
	a := start(t, settings(t, etcdtest.Start(t).Endpoint(), ""))
	a.ready(t)
	a.register(t, "web-1")
	begun := a.seen(t, "web", "web-1", discovery.ChangeAdded)
	next := a.events(t, "?service=web", "")
	if id, kind, data := next(); kind != "reset" || id != begun.End && id != a.seen(t, "web", "web-1", discovery.ChangeAdded).End || !strings.Contains(data, `"changes":[]`) {
		t.Errorf("%s %s %s", id, kind, data)
	}
	a.register(t, "web-2")
	if _, kind, data := next(); kind != "change" || !strings.Contains(data, `"id":"web-2"`) || !strings.Contains(data, `"change":"added"`) {
		t.Errorf("%s %s", kind, data)
	}
	again := a.events(t, "", begun.End)
	if _, kind, data := again(); kind != "change" || !strings.Contains(data, `"id":"web-2"`) {
		t.Errorf("%s %s", kind, data)
	}
	other := a.events(t, "", "3-anotherrun")
	if _, kind, _ := other(); kind != "reset" {
		t.Errorf("after a cursor of another run: %s", kind)
	}
}
