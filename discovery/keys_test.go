package discovery

import (
	"strings"
	"testing"
)

func TestKeysLayout(t *testing.T) {
	k := NewKeys("prod")
	from, to := k.CatalogRange()
	tests := []struct{ got, want string }{
		{Namespaces(), "/disc/v1/"},
		{k.Prefix(), "/disc/v1/prod/"},
		{k.Services(), "/disc/v1/prod/services/"},
		{k.Service("Web"), "/disc/v1/prod/services/web/"},
		{k.Instance("Web", "Web-1"), "/disc/v1/prod/services/web/instances/Web-1"},
		{k.Static("web", "db:1"), "/disc/v1/prod/services/web/static/db:1"},
		{k.Override("web", "web-1"), "/disc/v1/prod/services/web/overrides/web-1"},
		{k.Nodes(), "/disc/v1/prod/nodes/"},
		{k.Node("Host-1", "a1b2"), "/disc/v1/prod/nodes/Host-1/a1b2"},
		{k.Epoch(), "/disc/v1/prod/epoch"},
		{from, "/disc/v1/prod/nodes/"},
		{to, "/disc/v1/prod/services0"},
		{NewKeys("Prod").Prefix(), "/disc/v1/prod/"},
	}
	for _, tt := range tests {
		t.Run(tt.got, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("got %q, want %q", tt.got, tt.want)
			}
		})
	}
}

func TestKeysParse(t *testing.T) {
	k := NewKeys("default")
	tests := []struct {
		key  string
		want Key
	}{
		{k.Instance("Web", "Web-1"), Key{Kind: KeyInstance, Service: "web", ID: "Web-1"}},
		{k.Static("my.db", "10.0.0.5:5432"), Key{Kind: KeyStatic, Service: "my.db", ID: "10.0.0.5:5432"}},
		{k.Load("WEB", "web-1"), Key{Kind: KeyLoad, Service: "web", ID: "web-1"}},
		{k.SuspectOrder("WEB", "web-1"), Key{Kind: KeySuspectOrder, Service: "web", ID: "web-1"}},
		{k.Override("web", "web-1"), Key{Kind: KeyOverride, Service: "web", ID: "web-1"}},
		{k.Node("Host-1", "a1b2"), Key{Kind: KeyNode, Node: "Host-1", ID: "a1b2"}},
	}
	for _, tt := range tests {
		t.Run(tt.key, func(t *testing.T) {
			if got := k.Parse(tt.key); got != tt.want {
				t.Errorf("Parse(%q) = %+v, want %+v", tt.key, got, tt.want)
			}
		})
	}
}

func TestKeysParseAliens(t *testing.T) {
	k := NewKeys("default")
	aliens := []string{
		"", "/", "services/web/instances/web-1", "/disc/v1/default", k.Prefix(), k.Services(), k.Service("web"), k.Nodes(), k.Epoch(),
		k.Service("web") + "loads/web-1",
		k.Service("web") + "Instances/web-1",
		k.Instance("web", ""), k.Instance("web", "a/b"), k.Instance("web", "-a"), k.Instance("-web", "a"), k.Instance("", "a"),
		k.Services() + "Web/instances/web-1", // readers use the folded name only
		k.Node("host-1", ""), k.Node("", "a1"), k.Node("host-1", "a/b"), k.Nodes() + "host-1",
		k.Prefix() + "kv/services/web/instances/web-1",
		k.Prefix() + "kv/a", k.Prefix() + "locks/a/b", k.Prefix() + "claims/web/web-1/0",
		NewKeys("default2").Instance("web", "web-1"), NewKeys("other").Instance("web", "web-1"),
		"/disc/v2/default/services/web/instances/web-1",
	}
	for _, key := range aliens {
		t.Run(key, func(t *testing.T) {
			if got := k.Parse(key); got != (Key{}) {
				t.Errorf("Parse(%q) = %+v, want KeyOther", key, got)
			}
		})
	}
}

func TestCatalogRange(t *testing.T) {
	k := NewKeys("default")
	from, to := k.CatalogRange()
	in := []string{
		k.Nodes(), k.Node("a", "a1"), k.Node("zzz", "~"), k.Services(), k.Instance("a", "a"), k.Static("zzz", "z"), k.Override("0", "0"),
	}
	out := []string{
		k.Prefix() + "acks/b/a", k.Prefix() + "barriers/b", k.Prefix() + "claims/web/web-1/0", k.Epoch(), k.Prefix() + "kv/services/",
		k.Prefix() + "kv/zzz", k.Prefix() + "ledger/x", k.Prefix() + "limits/x", k.Prefix() + "locks/x/y",
		NewKeys("default2").Instance("web", "a"), NewKeys("defaul").Instance("web", "a"), NewKeys("default-x").Node("a", "b"),
	}
	for _, key := range in {
		t.Run(key, func(t *testing.T) {
			if key < from || key >= to {
				t.Errorf("%q is not in [%q, %q)", key, from, to)
			}
		})
	}
	for _, key := range out {
		t.Run(key, func(t *testing.T) {
			if key >= from && key < to {
				t.Errorf("%q is in [%q, %q)", key, from, to)
			}
		})
	}
}

func FuzzParseKey(f *testing.F) {
	k := NewKeys("default")
	for _, seed := range []string{k.Instance("web", "web-1"), k.Static("web", "a:1"), k.Override("web", "x"), k.Node("h", "a"), k.Epoch(), k.Services()} {
		f.Add(seed)
		f.Add(strings.TrimPrefix(seed, "/"))
	}
	f.Fuzz(func(t *testing.T, key string) {
		var again string
		got := k.Parse(key)
		switch got.Kind {
		case KeyOther:
			if got != (Key{}) {
				t.Fatalf("Parse(%q) = %+v", key, got)
			}
			return
		case KeyInstance:
			again = k.Instance(got.Service, got.ID)
		case KeyStatic:
			again = k.Static(got.Service, got.ID)
		case KeyOverride:
			again = k.Override(got.Service, got.ID)
		case KeyLoad:
			again = k.Load(got.Service, got.ID)
		case KeySuspectOrder:
			again = k.SuspectOrder(got.Service, got.ID)
		case KeyNode:
			again = k.Node(got.Node, got.ID)
		}
		if again != key {
			t.Fatalf("Parse(%q) = %+v, which is %q", key, got, again)
		}
		if from, to := k.CatalogRange(); key < from || key >= to {
			t.Fatalf("%q is of the catalog but out of its range", key)
		}
	})
}
