package check

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"disc/discovery"
)

func TestValidateTarget(t *testing.T) {
	http := func(url string) discovery.CheckSpec {
		return discovery.CheckSpec{Type: discovery.CheckHTTP, URL: url}
	}
	tcp := func(address string) discovery.CheckSpec {
		return discovery.CheckSpec{Type: discovery.CheckTCP, Address: address}
	}
	for _, test := range []struct {
		spec    discovery.CheckSpec
		address string
		want    error
	}{
		{http("http://10.0.0.5:8080/health"), "10.0.0.5", nil},
		{http("http://127.0.0.1:8080/"), "10.0.0.5", nil},
		{http("http://127.9.9.9/"), "10.0.0.5", nil},
		{http("http://[::1]:8080/"), "10.0.0.5", nil},
		{http("http://[::ffff:10.0.0.5]/"), "10.0.0.5", nil},
		{http("http://[fd00:0::5]:80/"), "fd00::5", nil},
		{http("https://LOCALHOST/"), "10.0.0.5", nil},
		{http("http://Web.Example.com/"), "web.example.com", nil},
		{http("http://web.example.com/"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://10.0.0.6/"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://169.254.169.254/latest/meta-data"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://10.0.0.5@10.0.0.6/"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://2130706433/"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://0.0.0.0/"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://localhost.evil.example/"), "10.0.0.5", discovery.ErrForbidden},
		{http("http://%zz/"), "10.0.0.5", discovery.ErrInvalid},
		{http("/health"), "10.0.0.5", discovery.ErrInvalid},
		{tcp(""), "10.0.0.5", nil},
		{tcp("10.0.0.5:80"), "10.0.0.5", nil},
		{tcp("[::1]:80"), "10.0.0.5", nil},
		{tcp("10.0.0.6:80"), "10.0.0.5", discovery.ErrForbidden},
		{tcp("10.0.0.5"), "10.0.0.5", discovery.ErrInvalid},
		{tcp(":80"), "10.0.0.5", discovery.ErrInvalid},
		{tcp("10.0.0.5:http"), "10.0.0.5", discovery.ErrInvalid},
		{tcp("10.0.0.5:70000"), "10.0.0.5", discovery.ErrInvalid},
		{discovery.CheckSpec{Type: discovery.CheckGRPC, Address: "10.0.0.6:80"}, "10.0.0.5", discovery.ErrForbidden},
		{discovery.CheckSpec{Type: discovery.CheckExec, Command: []string{"true"}}, "10.0.0.5", discovery.ErrForbidden},
		{discovery.CheckSpec{Type: discovery.CheckTTL}, "10.0.0.5", nil},
	} {
		t.Run(fmt.Sprintf("%s %s%s at %s", test.spec.Type, test.spec.URL, test.spec.Address, test.address), func(t *testing.T) {
			err := ValidateTarget(test.spec, test.address)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("%s %s%s for %s: got %v, want %v", test.spec.Type, test.spec.URL, test.spec.Address, test.address, err, test.want)
			}
		})
	}
}

// The address of a name is checked when the check connects, not when it is added.
func TestRestrictedDialer(t *testing.T) {
	for _, test := range []struct {
		own, target string
		refused     bool
	}{
		{"10.0.0.5", "127.0.0.1:80", false},
		{"10.0.0.5", "[::1]:80", false},
		{"10.0.0.5", "10.0.0.5:80", false},
		{"10.0.0.5", "[::ffff:10.0.0.5]:80", false},
		{"10.0.0.5", "10.0.0.6:80", true},
		{"10.0.0.5", "[fd00::1]:80", true},
		{"10.0.0.5", "169.254.169.254:80", true},
		{"web.example.com", "10.0.0.5:80", false},
		{"web.example.com", "169.254.169.254:80", true},
	} {
		t.Run(test.target+" for "+test.own, func(t *testing.T) {
			err := restrictedDialer(test.own).Control("tcp", test.target, nil)
			if (err != nil) != test.refused || err != nil && !errors.Is(err, discovery.ErrForbidden) {
				t.Errorf("instance %s, connection to %s: %v", test.own, test.target, err)
			}
		})
	}
}

// A restricted check whose target was accepted is still checked when it connects.
func TestRestrictedProbeIsRefused(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dialer := restrictedDialer("127.0.0.1")
	elsewhere := &tcpProber{address: "192.0.2.1:80", timeout: discovery.DefaultCheckTimeout, dialer: dialer}
	if r := elsewhere.probe(t.Context()); r.status != discovery.Critical || !containsAll(r.output, "refused: 192.0.2.1") {
		t.Errorf("got %+v", r)
	}
	here := &tcpProber{address: server.Addr().String(), timeout: discovery.DefaultCheckTimeout, dialer: dialer}
	if r := here.probe(t.Context()); r.status != discovery.Passing {
		t.Errorf("got %+v", r)
	}
}
