package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery"
)

// testTargets returns targets of a host that has the interface addresses 10.0.0.5 and fd00::5,
// beside link-local ones, and the name host.example.com, which resolves to 192.0.2.7 and
// 169.254.0.7.
func testTargets(advertised string, networks ...string) *targets {
	t := newTargets(advertised, nil)
	for _, n := range networks {
		t.networks = append(t.networks, netip.MustParsePrefix(n))
	}
	t.interfaces = func() (all []net.Addr, err error) {
		for _, a := range []string{"127.0.0.1/8", "10.0.0.5/24", "169.254.7.7/16", "fd00::5/64", "fe80::5/64"} {
			ip, network, err := net.ParseCIDR(a)
			if err != nil {
				return nil, err
			}
			all = append(all, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return all, nil
	}
	t.resolve = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "host.example.com" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7"), netip.MustParseAddr("169.254.0.7")}, nil
	}
	return t
}

// The settings say which addresses a restricted check may connect to; some it never may.
func TestTargets(t *testing.T) {
	wide := testTargets("192.0.2.9", "0.0.0.0/0", "::/0")
	bridge := testTargets("192.0.2.9", "172.17.0.0/16", "fd00:1::/64")
	for _, test := range []struct {
		targets *targets
		target  string
		allowed bool
	}{
		{testTargets(""), "127.0.0.1:80", true},
		{testTargets(""), "127.9.9.9:80", true},
		{testTargets(""), "[::1]:80", true},
		{testTargets(""), "[::ffff:127.0.0.1]:80", true},
		{testTargets(""), "10.0.0.5:80", true},
		{testTargets(""), "[::ffff:10.0.0.5]:80", true},
		{testTargets(""), "[fd00::5]:80", true},
		{testTargets(""), "10.0.0.6:80", false},
		{testTargets(""), "192.0.2.9:80", false},
		{testTargets("192.0.2.9"), "192.0.2.9:80", true},
		{testTargets("192.0.2.9"), "192.0.2.10:80", false},
		{testTargets("host.example.com"), "192.0.2.7:80", true},
		{testTargets("host.example.com"), "192.0.2.8:80", false},
		{testTargets("host.example.com"), "169.254.0.7:80", false},
		{testTargets("gone.example.com"), "10.0.0.5:80", true},
		{testTargets("gone.example.com"), "192.0.2.7:80", false},
		{testTargets("169.254.0.7"), "169.254.0.7:80", false},
		{bridge, "172.17.0.2:80", true},
		{bridge, "[::ffff:172.17.0.2]:80", true},
		{bridge, "[fd00:1::2]:80", true},
		{bridge, "172.18.0.2:80", false},
		{bridge, "169.254.7.7:80", false}, // though an interface has it
		{bridge, "[fe80::5%eth0]:80", false},
		{wide, "203.0.113.1:80", true},
		{wide, "[2001:db8::1]:80", true},
		{wide, "[64:ff9b::203.0.113.1]:80", true},
		{wide, "169.254.169.254:80", false},
		{wide, "[::ffff:169.254.169.254]:80", false},
		{wide, "[::169.254.169.254]:80", false},
		{wide, "[::ffff:0:169.254.169.254]:80", false},
		{wide, "[64:ff9b::169.254.169.254]:80", false},
		{wide, "[64:ff9b::127.0.0.1]:80", false},
		{wide, "[64:ff9b:1::169.254.169.254]:80", false},
		{wide, "[64:ff9b:1:a9fe:a9:fe00::]:80", false},
		{wide, "[2002:a9fe:a9fe::1]:80", false},
		{wide, "[fe80::1]:80", false},
		{wide, "[fd00:ec2::254]:80", false},
		{wide, "[fd20:ce::254]:80", false},
		{wide, "168.63.129.16:80", false},
		{wide, "100.100.100.200:80", false},
		{wide, "192.0.0.192:80", false},
		{wide, "[fd00:c1::a9fe:a9fe]:80", false},
		{wide, "[fd00:42::42]:80", false},
		{wide, "224.0.0.1:80", false},
		{wide, "[ff02::1]:80", false},
		{wide, "255.255.255.255:80", false},
		{wide, "0.0.0.0:80", false},
		{wide, "0.1.2.3:80", false},
		{wide, "[::]:80", false},
		{wide, "[::ffff:0.0.0.0]:80", false},
	} {
		t.Run(fmt.Sprintf("%s advertised %q networks %v", test.target, test.targets.advertised, test.targets.networks), func(t *testing.T) {
			err := test.targets.dialer().ControlContext(t.Context(), "tcp", test.target, nil)
			want := discovery.ErrForbidden
			if test.targets.advertised == "gone.example.com" {
				want = discovery.ErrUnavailable // it may be this host's
			}
			if (err == nil) != test.allowed || err != nil && !errors.Is(err, want) {
				t.Errorf("connection to %s: %v", test.target, err)
			}
			at := netip.MustParseAddrPort(test.target)
			spec := discovery.CheckSpec{Type: discovery.CheckTCP, Address: test.target}
			if err := test.targets.validate(spec); (err == nil) != test.allowed || err != nil && !errors.Is(err, want) {
				t.Errorf("registration of a check of %s: %v", at, err)
			}
		})
	}
}

// A registrant learns which setting opens an address, and that none opens others.
func TestRefusalNamesTheSetting(t *testing.T) {
	targets := testTargets("")
	for address, want := range map[string]string{
		"172.17.0.2:80":      "172.17.0.2 is neither loopback nor an address of this host; add its network to the agent's setting checks.networks",
		"169.254.169.254:80": "169.254.169.254 is link-local, where clouds serve credentials: a check from the API never probes it",
	} {
		t.Run(address, func(t *testing.T) {
			if err := targets.validate(discovery.CheckSpec{Type: discovery.CheckTCP, Address: address}); err == nil || !containsAll(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
	targets.interfaces = func() ([]net.Addr, error) { return nil, errors.New("netlink is closed") }
	targets.read = time.Time{}
	if err := targets.validate(discovery.CheckSpec{Type: discovery.CheckTCP, Address: "172.17.0.2:80"}); err == nil || !containsAll(err.Error(), "netlink is closed") {
		t.Errorf("got %v, want the reason for which the addresses are not known", err)
	}
}

// An address that an interface gets later is allowed within seconds.
func TestInterfacesChange(t *testing.T) {
	targets := testTargets("")
	late := netip.MustParseAddr("10.0.0.77")
	if err := targets.check(t.Context(), late); err == nil {
		t.Fatal("10.0.0.77 is allowed before an interface has it")
	}
	targets.interfaces = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("10.0.0.77"), Mask: net.CIDRMask(24, 32)}}, nil
	}
	targets.read = targets.read.Add(-ownPeriod)
	if err := targets.check(t.Context(), late); err != nil {
		t.Error(err)
	}
}

// This host's own addresses are found, whatever they are.
func TestOwnAddresses(t *testing.T) {
	own, err := newTargets("", nil).interfaceAddresses()
	if err != nil || !slices.Contains(own, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("got %v, %v", own, err)
	}
}

func TestValidate(t *testing.T) {
	get := func(url string) discovery.CheckSpec {
		return discovery.CheckSpec{Type: discovery.CheckHTTP, Method: http.MethodGet, URL: url}
	}
	method := func(m string) discovery.CheckSpec {
		return discovery.CheckSpec{Type: discovery.CheckHTTP, Method: m, URL: "http://127.0.0.1/"}
	}
	header := func(name string) discovery.CheckSpec {
		c := method(http.MethodGet)
		c.Headers = map[string]string{name: "x"}
		return c
	}
	tcp := func(address string) discovery.CheckSpec {
		return discovery.CheckSpec{Type: discovery.CheckTCP, Address: address}
	}
	for _, test := range []struct {
		spec discovery.CheckSpec
		want error
	}{
		{get("http://10.0.0.5:8080/health"), nil},
		{get("https://LOCALHOST/"), nil},
		{get("http://web.example.com/"), nil}, // judged when it connects
		{get("http://10.0.0.6/"), discovery.ErrForbidden},
		{get("http://169.254.169.254/latest/meta-data"), discovery.ErrForbidden},
		{get("http://10.0.0.5@10.0.0.6/"), discovery.ErrForbidden},
		{get("http://[fe80::1%25eth0]/"), discovery.ErrForbidden},
		{get("http://2130706433/"), discovery.ErrInvalid},
		{get("http://0x7f000001/"), discovery.ErrInvalid},
		{get("http://017700000001/"), discovery.ErrInvalid},
		{get("http://127.1/"), discovery.ErrInvalid},
		{get("http://%zz/"), discovery.ErrInvalid},
		{get("/health"), discovery.ErrInvalid},
		{tcp("10.0.0.5"), discovery.ErrInvalid},
		{tcp(":80"), discovery.ErrInvalid},
		{tcp("10.0.0.5:http"), discovery.ErrInvalid},
		{tcp("10.0.0.5:70000"), discovery.ErrInvalid},
		{discovery.CheckSpec{Type: discovery.CheckGRPC, Address: "10.0.0.6:80"}, discovery.ErrForbidden},
		{discovery.CheckSpec{Type: discovery.CheckExec, Command: []string{"true"}}, discovery.ErrForbidden},
		{discovery.CheckSpec{Type: discovery.CheckTTL}, nil},
		{method(http.MethodHead), nil},
		{method(http.MethodPut), discovery.ErrForbidden},
		{method(http.MethodPost), discovery.ErrForbidden},
		{method(http.MethodDelete), discovery.ErrForbidden},
		{method("get"), discovery.ErrForbidden}, // methods are case-sensitive
		{header("Authorization"), nil},
		{header("X-Forwarded-Proto"), nil},
		{header("Host"), discovery.ErrForbidden},
		{header("x-forwarded-host"), discovery.ErrForbidden},
		{header("METADATA-FLAVOR"), discovery.ErrForbidden},
		{header("Metadata"), discovery.ErrForbidden},
		{header("X-aws-ec2-metadata-token"), discovery.ErrForbidden},
		{header("X-aws-ec2-metadata-token-ttl-seconds"), discovery.ErrForbidden},
		{header("Transfer-Encoding"), discovery.ErrForbidden},
		{header("Transfer_Encoding"), discovery.ErrForbidden},
		{header("Content-Length"), discovery.ErrForbidden},
		{header("Connection"), discovery.ErrForbidden},
		{header("Upgrade"), discovery.ErrForbidden},
		{header("TE"), discovery.ErrForbidden},
		{header("X-HTTP-Method-Override"), discovery.ErrForbidden},
	} {
		t.Run(fmt.Sprintf("%s %s %s%s %v", test.spec.Type, test.spec.Method, test.spec.URL, test.spec.Address, test.spec.Headers), func(t *testing.T) {
			err := testTargets("").validate(test.spec)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// Whoever registers an instance chooses its address, so that it opens nothing.
func TestInstanceAddressIsNotAllowedAsSuch(t *testing.T) {
	r := discovery.Registration{Service: "web", ID: "web-1", Address: "192.0.2.1", Port: 80, Checks: []discovery.CheckSpec{{Type: discovery.CheckTCP}}}
	_, err := newScheduler(t, Options{}).NewSet(r.WithDefaults("", ""), SetOptions{Restricted: true})
	if !errors.Is(err, discovery.ErrForbidden) {
		t.Errorf("a check of the instance's own address: %v, want it forbidden", err)
	}
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	if _, err := newScheduler(t, Options{Networks: networks}).NewSet(r.WithDefaults("", ""), SetOptions{Restricted: true}); err != nil {
		t.Errorf("with its network in checks.networks: %v", err)
	}
	if _, err := newScheduler(t, Options{}).NewSet(r.WithDefaults("", ""), SetOptions{}); err != nil {
		t.Errorf("from the config file: %v", err)
	}
}

// A name is judged by what it resolves to, at each connection and for each type of check.
func TestRestrictedProbes(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/out" {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}
	})
	port := netip.MustParseAddrPort(url[len("http://"):]).Port()
	for _, test := range []struct {
		name   string
		spec   discovery.CheckSpec
		status discovery.Status
		output string
	}{
		{"tcp to loopback", discovery.CheckSpec{Type: discovery.CheckTCP, Address: fmt.Sprintf("localhost:%d", port)}, discovery.Passing, "connected"},
		{"http to loopback", discovery.CheckSpec{Type: discovery.CheckHTTP, URL: fmt.Sprintf("http://localhost:%d/", port)}, discovery.Passing, "200 OK"},
		{"a redirect to another host", discovery.CheckSpec{Type: discovery.CheckHTTP, URL: url + "/out"}, discovery.Critical, "a redirect that is not followed"},
		{"tcp elsewhere", discovery.CheckSpec{Type: discovery.CheckTCP, Address: "192.0.2.1:80"}, discovery.Critical, "refused: 192.0.2.1"},
		{"http elsewhere", discovery.CheckSpec{Type: discovery.CheckHTTP, URL: "http://169.254.169.254/"}, discovery.Critical, "refused: 169.254.169.254"},
		{"grpc elsewhere", discovery.CheckSpec{Type: discovery.CheckGRPC, Address: "192.0.2.1:80"}, discovery.Critical, "refused: 192.0.2.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Interval, test.spec.Timeout = minute, minute
			test.spec = test.spec.WithDefaults()
			p, err := newProber(test.spec, network{dialer: testTargets("").dialer()})
			if err != nil {
				t.Fatal(err)
			}
			if r := p.probe(t.Context()); r.status != test.status || !containsAll(r.output, test.output) {
				t.Errorf("got %+v, want %s, %s", r, test.status, test.output)
			}
		})
	}
}

// A stored check that is refused now is critical with the reason; the others go on.
func TestKeepRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := discovery.Registration{Service: "web", ID: "web-1", Address: "192.0.2.1", Port: 80, Checks: []discovery.CheckSpec{
		{Type: discovery.CheckTCP}, {ID: "here", Type: discovery.CheckTCP, Address: listener.Addr().String()},
		{Type: discovery.CheckHTTP, URL: "http://127.0.0.1/", Method: "PUT"}, {Type: discovery.CheckExec, Command: []string{"false"}},
	}}
	set, err := newScheduler(t, Options{}).NewSet(r.WithDefaults("", ""), SetOptions{Restricted: true, KeepRefused: true})
	if err != nil || len(set.Refused()) != 2 || !set.RefusedUntil().IsZero() {
		t.Fatalf("got %v, refused are %v; want two of them", err, set.Refused())
	}
	for n, want := range []result{
		{discovery.Critical, "checks.networks"}, {discovery.Passing, "connected"}, {discovery.Critical, "method PUT"}, {discovery.Critical, "config file"},
	} {
		t.Run(set.checks[n].spec.ID, func(t *testing.T) {
			if r := set.checks[n].prober.probe(t.Context()); r.status != want.status || !containsAll(r.output, want.output) {
				t.Errorf("got %+v, want %+v", r, want)
			}
		})
	}
}

// A stored check of an address that no interface has yet passes once one has it. Nothing is
// resolved before it connects.
func TestKeptUntilTheInterfaceIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler(t, Options{})
		s.targets = testTargets("host.example.com")
		resolve := s.targets.resolve
		s.targets.resolve = func(context.Context, string, string) ([]netip.Addr, error) {
			return nil, errors.New("the resolver is not up")
		}
		spec := discovery.CheckSpec{ID: "vpn", Type: discovery.CheckTCP, Address: "192.0.2.7:80", Interval: minute, Timeout: minute}
		r := discovery.Registration{Service: "web", ID: "web-1", Checks: []discovery.CheckSpec{spec}}
		if _, err := s.NewSet(r, SetOptions{Restricted: true}); !errors.Is(err, discovery.ErrUnavailable) {
			t.Errorf("registered while the advertised name is not known: %v", err)
		}
		set, err := s.NewSet(r, SetOptions{Restricted: true, KeepRefused: true})
		if err != nil || len(set.Refused()) != 0 {
			t.Fatalf("%v, refused are %v", err, set.Refused())
		}
		dialer := set.checks[0].prober.(*tcpProber).dialer
		if err := dialer.ControlContext(t.Context(), "tcp", spec.Address, nil); err == nil || !containsAll(err.Error(), "the resolver is not up") {
			t.Errorf("connected before the resolver is up: %v", err)
		}
		until := set.RefusedUntil()
		if !until.After(time.Now().Add(2 * time.Minute)) {
			t.Errorf("refused until %v, which is before the next run ends", until)
		}
		s.targets.resolve = resolve
		if err := dialer.ControlContext(t.Context(), "tcp", spec.Address, nil); err != nil || !set.RefusedUntil().Equal(until) {
			t.Errorf("after the resolver is up: %v, refused until %v", err, set.RefusedUntil())
		}
	})
}
