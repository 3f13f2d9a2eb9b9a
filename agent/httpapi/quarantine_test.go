package httpapi

import (
	"context"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// quarantines is a length of quarantines in memory.
type quarantines struct{ state api.Quarantine }

func (q *quarantines) Get(context.Context) (api.Quarantine, error) { return q.state, nil }

func (q *quarantines) SetLength(_ context.Context, length time.Duration) (api.Quarantine, error) {
	if q.state.InEffectWithin > 0 {
		return api.Quarantine{}, discovery.Errorf(discovery.ErrConflict, "try again")
	}
	q.state.Length, q.state.InEffectWithin = discovery.Duration(length), discovery.Duration(time.Minute)
	return q.state, nil
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	q := &quarantines{api.Quarantine{Length: discovery.Duration(time.Minute)}}
	backend := func(b *Backends) { b.Quarantines = q }
	open := serve(t, newFleet().api(t, Options{}, backend))
	open.want("GET /v1/quarantine", "", 200, `{"length":"1m","active":false}`)
	open.want("PUT /v1/quarantine?length=30s", "", 403, "http.tokens")
	open.want("PUT /v1/quarantine", "", 400, "give one such as 30s")
	open.want("PUT /v1/quarantine?length=long", "", 400, `length \"long\" is not a duration`)

	s := serve(t, newFleet().api(t, Options{Access: withToken("s3cret")}, backend))
	s.want("PUT /v1/quarantine?length=30s", "", 401)
	s.do("PUT /v1/quarantine?length=30s", "", "Authorization: Bearer s3cret").want(t, 200, `{"length":"30s","in_effect_within":"1m","active":false}`)
	s.do("PUT /v1/quarantine?length=20s", "", "Authorization: Bearer s3cret").want(t, 409, "try again")
	q.state = api.Quarantine{Length: q.state.Length, Active: true, Reason: "the revision went back", EndsWithin: discovery.Duration(time.Second)}
	s.want("GET /v1/quarantine", "", 200, `{"length":"30s","active":true,"reason":"the revision went back","ends_within":"1s"}`)
}
