package discovery_test

import (
	"testing"

	"disc/discovery"
)

func TestGrants(t *testing.T) {
	k := discovery.NewKeys("Fleet")
	const ns = "/disc/v1/fleet/"
	catalogFrom, catalogTo := k.CatalogRange()
	for _, test := range []struct{ from, to, read, write string }{
		{k.Instance("Web", "web-1"), "", ns, ns + "services/web/instances/"},
		{k.Static("web", "web-1"), "", ns, ns + "services/web/static/"},
		{k.Override("web", "web-1"), "", ns, ns + "services/web/overrides/"},
		{k.Load("web", "web-1"), "", ns, ns + "services/web/load/"},
		{k.Node("host-1", "a"), "", ns, ns + "nodes/host-1/"},
		{k.KV() + "a/b/c", "", ns, ns + "kv/"},
		{k.KV() + "a/", k.KV() + "a0", ns, ns + "kv/"},
		{k.KV(), ns + "kv0", ns, ns + "kv/"},
		{k.KVUsage(), "", ns, ns + "usage/"},
		{k.Lock("deploy") + "1", "", ns, ns + "locks/"},
		{k.Limit("api"), "", ns, ns + "limits/"},
		{k.Ledger("api"), "", ns, ns + "ledger/"},
		{k.Claim("gpu", "gpu-1", 0), "", ns, ns + "claims/"},
		{k.Epoch(), "", ns, ns + "epoch"},
		{k.Quarantine(), "", ns, ns + "quarantine"},
		{k.QuarantineLength(), "", ns, ns + "settings/quarantine"},
		{catalogFrom, catalogTo, ns, ns},
		{ns, "/disc/v1/fleet0", ns, ns},
		{ns + "kv/", "\x00", ns + "kv/", ns + "kv/"}, // all keys of etcd: no grant of disc's will do
		{discovery.Namespaces(), "/disc/v1/0", "/disc/v1/", "/disc/v1/"},
		{"/disc/v1/a/", "/disc/v1/z", "/disc/v1/", "/disc/v1/"},
		{"/other", "", "/other", "/other"},
		{"", "", "", ""},
	} {
		t.Run(test.from+"-"+test.to, func(t *testing.T) {
			if got := discovery.GrantToRead(test.from, test.to); got != test.read {
				t.Errorf("read: %q, want %q", got, test.read)
			}
			if got := discovery.GrantToWrite(test.from, test.to); got != test.write {
				t.Errorf("write: %q, want %q", got, test.write)
			}
		})
	}
}
