package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery"
	"disc/discovery/lock"
)

// Held is a claimed slot, as etcd has it.
type Held struct {
	Service  string // folded
	Instance string
	Slot     int
	Holder   string    // the short form of the claim's id, see [lock.ShortID]
	Node     string    // of the claimant's agent; empty: unknown
	Asked    time.Time // when it was claimed; zero: unknown
	Fence    int64
}

// List reads the claims on a service, or on all services if it is "", from etcd: sorted by
// service, instance and slot, at one revision. truncated is true if there are more than
// [lock.MaxListed].
func (c *Claims) List(ctx context.Context, service string) (held []Held, truncated bool, err error) {
	prefix := c.keys.Claims()
	if service != "" {
		if err := discovery.ValidateService(service); err != nil {
			return nil, false, err
		}
		prefix = c.keys.ClaimsOf(service)
	}
	kvs, truncated, err := lock.ListKeys(ctx, c.client, prefix)
	if err != nil {
		return nil, false, fmt.Errorf("list the claims: %w", err)
	}
	for _, kv := range kvs {
		if h, ok := c.parseHeld(kv); ok {
			held = append(held, h)
		}
	}
	return held, truncated, nil
}

// parseHeld returns the claim of a key, as far as its value can be read. It returns false for
// other keys.
func (c *Claims) parseHeld(kv *mvccpb.KeyValue) (Held, bool) {
	key := string(kv.Key)
	service, id, ok := c.keys.ParseClaim(key)
	slot, err := strconv.Atoi(key[strings.LastIndexByte(key, '/')+1:])
	if !ok || err != nil {
		return Held{}, false
	}
	h := Held{Service: service, Instance: id, Slot: slot, Fence: kv.CreateRevision}
	var r record
	if json.Unmarshal(kv.Value, &r) != nil {
		return h, true
	}
	if discovery.ValidateNode(r.Node) == nil {
		h.Node = r.Node
	}
	h.Holder, h.Asked = lock.ShortID(r.ID), r.Asked
	h.Fence += r.Base
	return h, true
}
