// Command openapi uses an agent through the client that oapi-codegen makes of openapi.json:
//
//	go run . http://127.0.0.1:3472
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/oapi-codegen/nullable"

	"openapi/client"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	last := &lastAnswer{}
	defer last.explain()
	u := user{ctx, ok(client.NewClientWithResponses(os.Args[1], client.WithHTTPClient(last)))}
	for _, use := range []func() error{u.register, u.lookup, u.override, u.report, u.keys, u.conditions, u.lock, u.claim, u.limit, u.agent, u.watch, u.problem, u.deregister} {
		if err := use(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("ok: client of oapi-codegen")
}

// lastAnswer is a client that remembers the status of the last answer.
type lastAnswer struct{ line string }

func (l *lastAnswer) Do(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		l.line = fmt.Sprintf("%s %s: %s", req.Method, req.URL, resp.Status)
	}
	return resp, err
}

// explain adds the last answer to a panic, such as of a part that the answer does not have.
func (l *lastAnswer) explain() {
	if r := recover(); r != nil {
		log.Fatalf("after %s: %v\n%s", l.line, r, debug.Stack())
	}
}

// ok returns what a call returned, and ends the program at its error.
func ok[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// user uses each part of the client.
type user struct {
	ctx context.Context
	c   *client.ClientWithResponses
}

const service, id = "generated", "generated-1"

// want returns an error unless an answer has the status, and got is as wanted.
func want[T any](resp *http.Response, body []byte, status int, got, wanted T) error {
	switch {
	case resp.StatusCode != status:
		return fmt.Errorf("%s %s: %s, want %d: %s", resp.Request.Method, resp.Request.URL, resp.Status, status, body)
	case !reflect.DeepEqual(got, wanted):
		return fmt.Errorf("%s %s: %+v, want %+v", resp.Request.Method, resp.Request.URL, got, wanted)
	}
	return nil
}

func pointer[T any](v T) *T { return &v }

func (u user) register() error {
	ttl := client.Check{Type: client.CheckTypeTtl, Ttl: pointer("10m")}
	resp := ok(u.c.RegisterWithResponse(u.ctx, service, id, &client.RegisterParams{}, client.Registration{
		Address: pointer("10.0.0.7"), Port: pointer(8080), Tags: &client.Tags{"v2"}, Meta: &client.Meta{"team": "core"}, Checks: &[]client.Check{ttl},
	}))
	if err := want(resp.HTTPResponse, resp.Body, 201, resp.JSON201 != nil, true); err != nil {
		return err
	}
	report := ok(u.c.ReportWithResponse(u.ctx, service, id, "ttl", client.CheckReport{Status: client.StatusPassing}))
	return want(report.HTTPResponse, report.Body, 204, resp.JSON201.Status, client.StatusCritical)
}

// lookup waits until the view has the report of the check.
func (u user) lookup() error {
	resp := ok(u.c.LookupWithResponse(u.ctx, service, &client.LookupParams{
		Tag: &client.Tag{"v2"}, Meta: &client.MetaQuery{"meta.team": "core"}, Status: pointer(client.LookupParamsStatusPassing),
	}))
	if err := want(resp.HTTPResponse, resp.Body, 200, resp.JSON200 != nil, true); err != nil {
		return err
	}
	if endpoints := resp.JSON200.Endpoints; len(endpoints) == 0 {
		ok(u.c.LookupWithResponse(u.ctx, service, &client.LookupParams{Index: &resp.Headers200.DiscIndex, Wait: pointer("10s")}))
		return u.lookup()
	} else if got := endpoints[0]; got.Address != "10.0.0.7" || got.Port != 8080 || got.Status != client.StatusPassing {
		return fmt.Errorf("lookup: %+v", got)
	}
	other := ok(u.c.LookupWithResponse(u.ctx, service, &client.LookupParams{Meta: &client.MetaQuery{"meta.team": "other"}}))
	return want(other.HTTPResponse, other.Body, 200, len(other.JSON200.Endpoints), 0)
}

func (u user) override() error {
	resp := ok(u.c.PatchOverrideWithResponse(u.ctx, service, id, client.OverridePatch{Weight: nullable.NewNullableWithValue(3), State: nullable.NewNullableWithValue(client.StateUp)}))
	if err := want(resp.HTTPResponse, resp.Body, 200, *resp.JSON200, client.Override{Weight: pointer(3), State: pointer(client.StateUp)}); err != nil {
		return err
	}
	resp = ok(u.c.PatchOverrideWithResponse(u.ctx, service, id, client.OverridePatch{State: nullable.NewNullNullable[client.State]()}))
	return want(resp.HTTPResponse, resp.Body, 200, *resp.JSON200, client.Override{Weight: pointer(3)})
}

func (u user) report() error {
	resp := ok(u.c.ReportLoadWithResponse(u.ctx, service, id, client.Load{Utilization: 0.5}))
	return want(resp.HTTPResponse, resp.Body, 204, "", "")
}

// keys writes and reads keys with slashes, which the client sends as %2F.
func (u user) keys() error {
	put := ok(u.c.KvPutWithBodyWithResponse(u.ctx, "generated/db/primary", nil, "text/plain", strings.NewReader("10.0.0.5:5432")))
	if err := want(put.HTTPResponse, put.Body, 200, put.Headers200.DiscRevision > 0, true); err != nil {
		return err
	}
	get := ok(u.c.KvGetWithResponse(u.ctx, "generated/db/primary", nil))
	if err := want(get.HTTPResponse, get.Body, 200, string(get.Body), "10.0.0.5:5432"); err != nil {
		return err
	}
	many := ok(u.c.KvGetWithResponse(u.ctx, "generated/", &client.KvGetParams{Recurse: pointer(client.KvGetParamsRecurseTrue)}))
	if err := want(many.HTTPResponse, many.Body, 200, many.JSON200 != nil, true); err != nil {
		return err
	}
	list, err := many.JSON200.AsKVList()
	if err != nil || len(list) != 1 {
		return fmt.Errorf("keys below generated/: %+v, %v", list, err)
	}
	item, err := list[0].AsKVItem()
	if err != nil || item.Key != "generated/db/primary" || item.Revision != put.Headers200.DiscRevision {
		return fmt.Errorf("keys below generated/: %+v, %v", item, err)
	}
	return nil
}

func (u user) conditions() error {
	put := ok(u.c.KvPutWithBodyWithResponse(u.ctx, "generated/db/primary", &client.KvPutParams{IfNoneMatch: pointer(client.KvPutParamsIfNoneMatchAsterisk)}, "text/plain", strings.NewReader("other")))
	if err := want(put.HTTPResponse, put.Body, 412, put.ApplicationproblemJSON412 != nil, true); err != nil {
		return err
	}
	write := ok(u.c.KvWriteWithResponse(u.ctx, client.KVBatch{Ops: []client.KVOp{{Op: client.KVOpOpDelete, Key: "generated/db/primary"}}}))
	return want(write.HTTPResponse, write.Body, 200, write.JSON200 != nil, true)
}

func (u user) lock() error {
	resp := ok(u.c.LockWithResponse(u.ctx, "generated", &client.LockParams{Ttl: pointer("1m")}))
	if err := want(resp.HTTPResponse, resp.Body, 201, resp.JSON201 != nil, true); err != nil {
		return err
	}
	held := resp.JSON201
	if resp.Headers201.DiscFence != held.Fence {
		return fmt.Errorf("fence %d in the header, %d in the body", resp.Headers201.DiscFence, held.Fence)
	}
	again := ok(u.c.LockWithResponse(u.ctx, "generated", nil))
	if err := want(again.HTTPResponse, again.Body, 409, again.ApplicationproblemJSON409 != nil, true); err != nil {
		return err
	}
	renewed := ok(u.c.RenewLockWithResponse(u.ctx, "generated", held.Id))
	if err := want(renewed.HTTPResponse, renewed.Body, 200, renewed.JSON200.Fence, held.Fence); err != nil {
		return err
	}
	end := ok(u.c.UnlockWithResponse(u.ctx, "generated", held.Id))
	return want(end.HTTPResponse, end.Body, 204, "", "")
}

func (u user) claim() error {
	resp := ok(u.c.ClaimWithResponse(u.ctx, service, &client.ClaimParams{Prefer: pointer(client.ClaimParamsPreferZone)}, client.ClaimJSONRequestBody{Ttl: pointer("1m")}))
	if err := want(resp.HTTPResponse, resp.Body, 201, resp.JSON201 != nil, true); err != nil {
		return err
	}
	end := ok(u.c.ReleaseClaimWithResponse(u.ctx, resp.JSON201.Claim))
	return want(end.HTTPResponse, end.Body, 204, resp.JSON201.Endpoint.Id, id)
}

func (u user) limit() error {
	put := ok(u.c.PutLimitWithResponse(u.ctx, "generated", client.Limit{Rate: 5, Burst: pointer(10), OnUnavailable: pointer(client.LimitOnUnavailableAllow)}))
	if err := want(put.HTTPResponse, put.Body, 201, put.JSON201 != nil, true); err != nil {
		return err
	}
	for {
		take := ok(u.c.TakeLimitWithResponse(u.ctx, "generated", &client.TakeLimitParams{N: pointer(2)}))
		if take.ApplicationproblemJSON429 != nil && strings.Contains(string(take.ApplicationproblemJSON429.Type), "quota-exceeded") {
			time.Sleep(100 * time.Millisecond) // a new limit has no tokens at first
			continue
		}
		return want(take.HTTPResponse, take.Body, 200, take.JSON200 != nil, true)
	}
}

func (u user) agent() error {
	resp := ok(u.c.AgentWithResponse(u.ctx))
	return want(resp.HTTPResponse, resp.Body, 200, resp.JSON200.Session.State, client.SessionStateAlive)
}

// watch reads the first event of a stream.
func (u user) watch() error {
	resp := ok(u.c.Watch(u.ctx, &client.WatchParams{Service: pointer(service)}))
	defer resp.Body.Close()
	b := make([]byte, 512)
	n, err := resp.Body.Read(b)
	if err != nil || !strings.Contains(string(b[:n]), "event: reset") {
		return fmt.Errorf("watch: %q, %w", b[:n], err)
	}
	return nil
}

func (u user) problem() error {
	resp := ok(u.c.LookupWithResponse(u.ctx, "nothing", nil))
	return want(resp.HTTPResponse, resp.Body, 404, resp.ApplicationproblemJSON404.Status, 404)
}

func (u user) deregister() error {
	resp := ok(u.c.DeregisterWithResponse(u.ctx, service, id, nil))
	return want(resp.HTTPResponse, resp.Body, 200, "", "")
}
