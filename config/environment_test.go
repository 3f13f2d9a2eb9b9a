package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"disc/config"
)

func TestUnknownVariables(t *testing.T) {
	h := config.Host{Environ: func() []string {
		return []string{
			"DISC_ZOEN=a", "DISC_ENDPOINT=a:1", "DISC_ETCD_ENDPOINTS=a:1", "DISC_FROBNICATE=1", "DISC_LOCKS=x", "disc_node=n", // unknown
			"DISC_HTTP_PORT=8080", "DISC_PORT=3472", "DISC_X=DISC_SERVICE_HOST=", "DISC_PORT_TCP=tcp://a:1",
			"DISC_ZONE=a", "DISC_SESSION_TTL=5s", "DISC_LOCK=x", "DISC_EMPTY=", "PATH=/bin", "DISCOUNT=5",
			"DISC_SERVICE_HOST=10.0.0.1", "DISC_SERVICE_PORT=1", "DISC_SERVICE_PORT_HTTP=1", "DISC_PORT=tcp://10.0.0.1:1", "DISC_DNS_PORT=udp://10.0.0.1:1",
			"DISC_AGENT_PORT_3472_TCP=tcp://10.0.0.1:3472", "DISC_AGENT_PORT_3472_TCP_ADDR=10.0.0.1",
		}
	}}
	want := []config.UnknownVariable{
		{Name: "DISC_ENDPOINT", Nearest: "DISC_ENDPOINTS"}, {Name: "DISC_ETCD_ENDPOINTS"}, {Name: "DISC_FROBNICATE"},
		{Name: "DISC_HTTP_PORT"},
		{Name: "DISC_LOCKS", Nearest: "DISC_LOCK"}, {Name: "DISC_PORT", Nearest: "DISC_CERT"}, {Name: "DISC_PORT_TCP"}, {Name: "DISC_X"}, {Name: "DISC_ZOEN", Nearest: "DISC_ZONE"}, {Name: "disc_node", Nearest: "DISC_NODE"},
	}
	if diff := cmp.Diff(want, h.UnknownVariables("DISC_LOCK")); diff != "" {
		t.Error(diff)
	}
}
