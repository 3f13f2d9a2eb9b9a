package check

import (
	"net"
	"strings"
	"testing"

	"disc/discovery"
)

func TestTCP(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckTCP, Address: server.Addr().String()}); r.status != discovery.Passing {
		t.Errorf("got %+v", r)
	}
	if r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckTCP, Address: "127.0.0.1:1"}); r.status != discovery.Critical || !strings.Contains(r.output, "connection refused") {
		t.Errorf("got %+v", r)
	}
}

func TestAddressDefaultsToTheInstances(t *testing.T) {
	for address, want := range map[string]string{"10.0.0.5": "10.0.0.5:80", "fd00::5": "[fd00::5]:80", "db.example": "db.example:80"} {
		for _, kind := range []discovery.CheckType{discovery.CheckTCP, discovery.CheckGRPC} {
			spec, err := resolveAddress(discovery.CheckSpec{Type: kind}, address, 80)
			if err != nil || spec.Address != want {
				t.Errorf("%s check of %s probes %q (%v), want %q", kind, address, spec.Address, err, want)
			}
		}
	}
}
