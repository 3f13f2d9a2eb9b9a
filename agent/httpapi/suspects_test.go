package httpapi

import (
	"context"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// suspectOrders are the orders on suspects, in memory.
type suspectOrders struct {
	known map[string]discovery.SuspectOrder
	keep  time.Duration
}

func (s *suspectOrders) Order(service, id string) discovery.SuspectOrder {
	return s.known[service+"/"+id]
}

func (s *suspectOrders) Give(_ context.Context, service, id string, order discovery.SuspectOrder, keep time.Duration) (discovery.SuspectOrder, error) {
	if keep > discovery.MaxSuspectKeep {
		return order, discovery.Errorf(discovery.ErrConflict, "try again")
	}
	s.known, s.keep = map[string]discovery.SuspectOrder{service + "/" + id: order}, keep
	return order, nil
}

func TestSuspects(t *testing.T) {
	t.Parallel()
	f := newFleet()
	f.put(discovery.Instance{Service: "web", ID: "web-1", Node: "n1", Address: "10.0.0.5", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing})
	before := f.view.Snapshot
	f.view.Snapshot, _ = view.EmptySnapshot().WithEpoch("e1").RetainMissing(before, true)
	f.put(discovery.Instance{Service: "web", ID: "web-2", Node: "n2", Address: "10.0.0.6", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing})
	orders := &suspectOrders{}
	backend := func(b *Backends) { b.Suspects = orders }
	open := serve(t, f.api(t, Options{}, backend))
	const one = `{"service":"web","id":"web-1","node":"n1","address":"10.0.0.5","port":80`
	open.want("GET /v1/suspects", "", 200, `{"suspects":[`+one+`}]}`)
	open.want("GET /v1/suspects?service=Web", "", 200, `{"suspects":[`+one+`}]}`)
	open.want("GET /v1/suspects?service=nosuch", "", 200, `{"suspects":[]}`)
	open.want("GET /v1/suspects?service=", "", 400, "service name is empty")
	open.want("PUT /v1/suspects/web/web-1?order=drop", "", 403, "disc suspects")
	open.want("PUT /v1/suspects/web/web-1?order=eat", "", 400, "use drop or keep")

	s := serve(t, f.api(t, Options{Access: withToken("s3cret")}, backend))
	as := func(call string) answer { t.Helper(); return s.do(call, "", "Authorization: Bearer s3cret") }
	s.want("PUT /v1/suspects/web/web-1?order=drop", "", 401)
	as("PUT /v1/suspects/web/web-2?order=drop").want(t, 404, "no suspect")
	as("PUT /v1/suspects/web/web-1?order=drop&for=1h").want(t, 400, "leave it out")
	as("PUT /v1/suspects/web/web-1?order=keep&for=long").want(t, 400, "give one such as 30m")
	as("PUT /v1/suspects/web/web-1?order=keep&for=25h").want(t, 409, "try again")
	as("PUT /v1/suspects/web/web-1?order=keep").want(t, 200, `"order":"keep"`)
	if orders.keep != time.Hour {
		t.Errorf("it is kept for %v, want an hour", orders.keep)
	}
	as("GET /v1/suspects").want(t, 200, `"order":{"order":"keep"`)
}
