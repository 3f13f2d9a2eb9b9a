package agent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/agent/api/apitest"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// An agent reads earlier values from etcd.
func TestKeyValueHistory(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	a.api.HTTP.Transport = etcdtest.Must(apitest.NewValidator(httpapi.OpenAPI())).Transport(a.api.HTTP.Transport)
	ctx := t.Context()
	put := func(value string, ttl time.Duration) int64 {
		return etcdtest.Must(a.api.KVPut(ctx, "app/a", []byte(value), ttl, nil))
	}
	one, two := put("1", 0), put("", 0)
	gone := etcdtest.Must(a.api.KVDelete(ctx, "app/a", nil))
	three := put("3", time.Hour)

	h, fresh, err := a.api.KVHistory(ctx, "app/a", api.KVHistoryOptions{})
	if err != nil || h.Key != "app/a" || h.Older != api.KVOlderNone || len(h.Versions) != 4 || fresh.Revision < three || fresh.Index != three {
		t.Fatalf("%+v, %+v, %v", h, fresh, err)
	}
	if v := h.Versions[0]; v.Revision != three || v.Number != 1 || v.Created != three || !v.Expires || v.ExpiresIn <= 0 || v.ExpiresIn > discovery.Duration(time.Hour) {
		t.Errorf("%+v", v)
	}
	if v := h.Versions[1]; v.Revision != gone || !v.Deleted || v.Value != nil {
		t.Errorf("%+v", v)
	}
	if v := h.Versions[2]; v.Revision != two || v.Number != 2 || v.Created != one || v.Value == nil || v.Expires {
		t.Errorf("%+v", v)
	}
	h, _, err = a.api.KVHistory(ctx, "app/a", api.KVHistoryOptions{From: gone - 1, Max: 1})
	if err != nil || len(h.Versions) != 1 || h.Versions[0].Revision != two || h.Older != api.KVOlderMore {
		t.Errorf("%+v, %v", h, err)
	}
	item, _, err := a.api.KVGetAt(ctx, "app/a", one)
	if err != nil || string(item.Value) != "1" || item.Revision != one {
		t.Errorf("%+v, %v", item, err)
	}
	if _, fresh, err := a.api.KVGet(ctx, "app/a", api.KVRead{}); err != nil || fresh.Index != three {
		t.Errorf("now: %+v, %v", fresh, err)
	}

	if _, err := etcdtest.Client(t, etcd.Endpoint()).Compact(ctx, three); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.api.KVGetAt(ctx, "app/a", one); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), "compacted") {
		t.Errorf("%v", err)
	}
	if _, _, err := a.api.KVGetAt(ctx, "app/a", 1<<40); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, _, err := a.api.KVHistory(ctx, "app/a", api.KVHistoryOptions{Max: api.MaxKVVersions + 1}); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), "use 1 to 100") {
		t.Errorf("%v", err)
	}
}
