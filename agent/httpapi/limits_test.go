package httpapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// counters are limits in memory, with what is left of each.
type counters struct {
	limits map[string]discovery.Limit
	left   map[string]int64
	away   bool // etcd is
}

func newCounters() *counters {
	return &counters{limits: map[string]discovery.Limit{}, left: map[string]int64{}}
}

func (c *counters) Take(_ context.Context, name string, n int64) (discovery.Decision, error) {
	limit, ok := c.limits[name]
	if !ok {
		return discovery.Decision{}, discovery.Errorf(discovery.ErrNotFound, "there is no limit %s", name)
	}
	d := discovery.Decision{Limit: limit, Remaining: c.left[name]}
	switch {
	case c.away:
		d.Unavailable, d.Granted, d.RetryAfter = true, limit.OnUnavailable == discovery.AllowUnavailable, time.Second
	case n > c.left[name]:
		d.RetryAfter = 2500 * time.Millisecond
	default:
		c.left[name] -= n
		d.Granted, d.Remaining, d.Full = true, c.left[name], 1200*time.Millisecond
	}
	return d, nil
}

func (c *counters) List(_ context.Context, usage bool) ([]api.Limit, error) {
	list := []api.Limit{}
	for name, l := range c.limits {
		limit := api.Limit{Name: name, Limit: l}
		if usage {
			limit.Usage = &api.LimitUsage{Bought: c.left[name], Waiting: 1}
		}
		list = append(list, limit)
	}
	slices.SortFunc(list, func(a, b api.Limit) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (c *counters) Get(_ context.Context, name string) (discovery.Limit, error) {
	l, ok := c.limits[name]
	if !ok {
		return l, discovery.Errorf(discovery.ErrNotFound, "there is no limit %s", name)
	}
	return l, nil
}

func (c *counters) Put(_ context.Context, name string, l discovery.Limit) (discovery.Limit, bool, int64, error) {
	l = l.WithDefaults()
	if err := l.Validate(); err != nil {
		return l, false, 0, err
	}
	_, known := c.limits[name]
	c.limits[name] = l
	return l, !known, 7, nil
}

func (c *counters) Delete(ctx context.Context, name string) (int64, error) {
	_, err := c.Get(ctx, name)
	delete(c.limits, name)
	return 8, err
}

func TestLimits(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	s.want("GET /v1/limits", "", 200, "[]")
	s.want("PUT /v1/limits/sms", `{"rate":50}`, 201, `{"name":"sms","rate":50,"per":"1s","burst":50,"on_unavailable":"deny"}`)
	s.want("PUT /v1/limits/sms", `{"rate":5,"per":"1m","burst":2}`, 200, `"per":"1m"`)
	s.want("GET /v1/limits/sms", "", 200, `"rate":5`)
	s.want("GET /v1/limits", "", 200, `[{"name":"sms","rate":5,"per":"1m","burst":2,"on_unavailable":"deny"}]`)
	s.want("GET /v1/limits?usage", "", 200, `"on_unavailable":"deny","usage":{"bought":0,"waiting":1}}]`)
	s.want("GET /v1/limits?usage=maybe", "", 400, "usage")
	for body, text := range map[string]string{
		`{"rate":0}`:                         "rate 0 is out of range",
		`{"rate":-1}`:                        "rate -1 is out of range",
		`{"rate":1,"per":"1ns"}`:             "per 1ns is out of range",
		`{"rate":1,"per":"soon"}`:            "is not a duration",
		`{"rate":1,"burst":-1}`:              "burst -1 is out of range",
		`{"rate":1,"burst":0}`:               "burst 0 is out of range",
		`{"rate":1,"per":"0s"}`:              "per 0s is out of range",
		`{"rate":1e9}`:                       "above 1000000 a second",
		`{"rate":1,"on_unavailable":"pray"}`: "use deny or allow",
		`{"rate":1,"speed":1}`:               "speed",
		`{"rate":"1"}`:                       "rate",
	} {
		t.Run(body, func(t *testing.T) {
			s := s.in(t)
			s.want("PUT /v1/limits/sms", body, 400, text)
		})
	}
	if got := s.want("DELETE /v1/limits/sms", "", 200); got.Header.Get(api.HeaderRevision) != "8" {
		t.Errorf("revision %q", got.Header.Get(api.HeaderRevision))
	}
	s.want("GET /v1/limits/sms", "", 404, "there is no limit sms")
	s.want("POST /v1/limits/sms/take", "", 404, "there is no limit sms")
}

func TestTake(t *testing.T) {
	c := newCounters()
	s := serve(t, newFleet().api(t, Options{}, func(b *Backends) { b.Limits = c }))
	s.want("PUT /v1/limits/sms", `{"rate":0.5,"burst":3}`, 201)
	c.left["sms"] = 3
	got := s.want("POST /v1/limits/sms/take?n=2", "", 200, `{"name":"sms","taken":2,"remaining":1}`)
	for header, want := range map[string]string{"RateLimit": `"sms";r=1;t=2`, "RateLimit-Policy": `"sms";q=1;w=2`} {
		if got.Header.Get(header) != want {
			t.Errorf("%s: %s, want %s", header, got.Header.Get(header), want)
		}
	}
	got = s.want("POST /v1/limits/sms/take?n=2", "", 429, "quota-exceeded", `"violated-policies":["sms"]`, `"retry_after":"2.5s"`, "try again in 2.5s")
	if got.Header.Get("Retry-After") != "3" || got.Header.Get("RateLimit") != `"sms";r=1;t=3` {
		t.Errorf("headers %v", got.Header)
	}
	c.left["sms"] = 0
	s.want("POST /v1/limits/sms/take", "", 429, "has no token left; try again in 2.5s")
	for _, n := range []string{"0", "-1", "x", "1.5", "99999999999999999999"} {
		s.want("POST /v1/limits/sms/take?n="+n, "", 400, "is not a number of tokens")
	}
	c.away = true
	s.want("POST /v1/limits/sms/take", "", 429, "temporary-reduced-capacity", "cannot be counted, and is set to deny then")
	s.want("PUT /v1/limits/sms", `{"rate":1,"on_unavailable":"allow"}`, 200)
	s.want("POST /v1/limits/sms/take", "", 200, `"unavailable":true`)
}

func TestLimitsWithToken(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{Access: withToken("secret")}))
	s.want("PUT /v1/limits/sms", `{"rate":1}`, 401)
	s.want("DELETE /v1/limits/sms", "", 401)
	s.want("POST /v1/limits/sms/take", "", 401)
	s.want("GET /v1/limits", "", 200)
	s.Token = "secret"
	if _, created, revision, err := s.PutLimit(t.Context(), "sms", discovery.Limit{Rate: 1}); err != nil || !created || revision != 7 {
		t.Errorf("created %v at %d, %v", created, revision, err)
	}
}

func TestLimitsClient(t *testing.T) {
	c := newCounters()
	s := serve(t, newFleet().api(t, Options{}, func(b *Backends) { b.Limits = c }))
	l, created, _, err := s.PutLimit(t.Context(), "sms", discovery.Limit{Rate: 1, Burst: 2})
	if err != nil || !created || l.Name != "sms" || l.Burst != 2 || l.OnUnavailable != discovery.DenyUnavailable {
		t.Fatalf("put %+v, %v, %v", l, created, err)
	}
	c.left["sms"] = 3
	for _, want := range []api.Taken{
		{Name: "sms", Taken: 2, Remaining: 1},
		{Name: "sms", RetryAfter: discovery.Duration(2500 * time.Millisecond), Reason: "limit sms has fewer than 2 tokens left; try again in 2.5s"},
	} {
		if got, err := s.Take(t.Context(), "sms", 2); err != nil || got != want {
			t.Errorf("took %+v, %v, want %+v", got, err, want)
		}
	}
	if list, err := s.Limits(t.Context()); err != nil || len(list) != 1 || list[0] != l {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := s.DeleteLimit(t.Context(), "sms"); err != nil {
		t.Error(err)
	}
	if _, err := s.Take(t.Context(), "sms", 1); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("take of what was removed: %v", err)
	}
	if _, err := s.Limit(t.Context(), "sms"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
}
