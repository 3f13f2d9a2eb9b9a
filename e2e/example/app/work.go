package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// ttl is the time within which a claim is renewed.
const ttl = 5 * time.Second

// work uses an idle GPU, which no other worker uses meanwhile. It stops when the caller leaves.
func (a app) work(w http.ResponseWriter, r *http.Request) {
	claim, err := a.agent.Claim(r.Context(), "gpu", api.ClaimOptions{Wait: 30 * time.Second, TTL: ttl})
	if err != nil {
		fail(w, err)
		return
	}
	defer a.release(r.Context(), claim)
	valid, err := a.renewOnce(r.Context(), claim, ttl) // the wait may have taken most of its time
	if err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	go func() { cancel(a.renew(ctx, claim, valid)) }()
	seconds, _ := strconv.ParseFloat(r.FormValue("seconds"), 64) // 0 without a value
	begin := time.Now()
	select {
	case <-ctx.Done():
		fail(w, context.Cause(ctx))
		return
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	}
	end := time.Now()
	if err := a.record(ctx, claim); err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"gpu": claim.Endpoint.ID, "fence": claim.Fence,
		"begin": float64(begin.UnixNano()) / 1e9, "end": float64(end.UnixNano()) / 1e9})
}

// release releases a claim. If it cannot, the claim was lost before, or ends with its TTL.
func (a app) release(ctx context.Context, claim api.Claim) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
	defer cancel()
	_ = a.agent.ReleaseClaim(ctx, claim.ID)
}

// renew renews a claim until it is lost, which is the error, or ctx ends. It is valid until then.
func (a app) renew(ctx context.Context, claim api.Claim, valid time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(ttl/3, time.Until(valid))):
		}
		left := time.Until(valid)
		if left <= 0 {
			return discovery.Errorf(discovery.ErrLost, "the claim could not be renewed in time")
		}
		until, err := a.renewOnce(ctx, claim, min(ttl/3, left))
		switch {
		case err == nil:
			valid = until
		case errors.Is(err, discovery.ErrLost):
			return err
		} // else the agent is away: it may be back in time
	}
}

// renewOnce renews a claim, and returns until when it is valid. An ErrLost: it is lost.
func (a app) renewOnce(ctx context.Context, claim api.Claim, limit time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	sent := time.Now()
	renewed, err := a.agent.RenewClaim(ctx, claim.ID)
	if errors.Is(err, discovery.ErrNotFound) {
		err = discovery.Errorf(discovery.ErrLost, "%v", err)
	}
	return sent.Add(time.Duration(renewed.ValidFor)), err
}

// record writes the result, unless a later claim of the same slot has written one: whoever was
// suspended for longer than its claim lasted does not know that it has lost it. The fence tells.
func (a app) record(ctx context.Context, claim api.Claim) error {
	type result struct {
		Fence  int64 `json:"fence"`
		Worker int   `json:"worker"`
	}
	value, err := json.Marshal(result{claim.Fence, os.Getpid()})
	if err != nil {
		return err
	}
	key := fmt.Sprintf("app/results/%s/%d", claim.Endpoint.ID, claim.Slot)
	for {
		item, _, err := a.agent.KVGet(ctx, key, api.KVRead{Linearizable: true})
		if err != nil && !errors.Is(err, discovery.ErrNotFound) {
			return err
		}
		var before result
		if err == nil {
			if err := json.Unmarshal(item.Value, &before); err != nil {
				return err
			}
		}
		if before.Fence > claim.Fence {
			return discovery.Errorf(discovery.ErrLost, "a later claim has written its result")
		}
		_, err = a.agent.KVPut(ctx, key, value, 0, &item.Revision) // 0: the key must not exist
		if !errors.Is(err, discovery.ErrConflict) {
			return err
		}
	}
}
