package dns

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// serve runs a server until the test ends.
func serve(t testing.TB, address string, r *Responder) netip.AddrPort {
	t.Helper()
	s, err := Listen(address, r, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

func TestServer(t *testing.T) {
	r := responder(t, webCatalog(t, 200), Options{})
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		at := serve(t, address, r).String()
		for _, tt := range []struct {
			network string
			qtype   uint16
			answers int
			tc      bool
		}{{"udp", dns.TypeA, 29, false}, {"udp", dns.TypeSRV, 11, true}, {"tcp", dns.TypeA, 200, false}, {"tcp", dns.TypeSRV, 200, false}, {"tcp", dns.TypeAAAA, 0, false}} {
			m, _, err := (&dns.Client{Net: tt.network, Timeout: time.Minute}).Exchange(newQuery("web.disc.", tt.qtype), at)
			if err != nil || m.Truncated != tt.tc || len(m.Answer) < tt.answers {
				t.Errorf("%s %s %s: %v\n%v", address, tt.network, dns.TypeToString[tt.qtype], err, m)
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := responder(t, testCatalog(t), Options{Registerer: registry})
	for _, q := range []*dns.Msg{
		newQuery("web.disc.", dns.TypeSRV), newQuery("web.disc.", dns.TypeSRV), newQuery("web.disc.", dns.TypeMX),
		newQuery("no.disc.", dns.TypeMX), newQuery("example.com.", dns.TypeA),
	} {
		exchange(t, r, q, 0)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()+labels(m)] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"disc_dns_queries_total NOERROR SRV": 2, "disc_dns_queries_total NOERROR other": 1, "disc_dns_queries_total NXDOMAIN other": 1,
		"disc_dns_queries_total REFUSED A": 1, "disc_dns_queries_total NOERROR A": 0, "disc_dns_duration_seconds": 5,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if _, err := New(r.catalog, Options{Registerer: registry}); err == nil {
		t.Error("metrics are registered twice")
	}
}

// labels returns the values of the labels of a metric.
func labels(m *dto.Metric) string {
	text := ""
	for _, l := range m.Label {
		text += " " + l.GetValue()
	}
	return text
}

// TestWildcard asks a server on all addresses at several of them, over sockets that accept
// an answer only from the address that they asked.
func TestWildcard(t *testing.T) {
	for listen, asked := range map[string][]string{
		"0.0.0.0:0": {"127.0.0.1", "127.0.0.2"},
		"[::]:0":    {"::1", "127.0.0.1", "127.0.0.3"},
	} {
		port := serve(t, listen, responder(t, testCatalog(t), Options{})).Port()
		for _, ip := range asked {
			at := netip.AddrPortFrom(netip.MustParseAddr(ip), port).String()
			for _, network := range []string{"udp", "tcp"} {
				m, _, err := (&dns.Client{Net: network, Timeout: time.Minute}).Exchange(newQuery("spare.disc.", dns.TypeA), at)
				if err != nil || len(m.Answer) != 1 {
					t.Errorf("%s over %s at %s: %v, %v", listen, network, at, err, m)
				}
			}
		}
	}
}

// TestConnection asks several questions over one connection, all at once and byte by
// byte, then sends something other than a query.
func TestConnection(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, "127.0.0.1:0", responder(t, testCatalog(t), Options{})).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var stream []byte
	questions := []string{"web.disc.", "no.disc.", "disc.", "example.com."}
	for n, name := range questions {
		q := newQuery(name, dns.TypeSOA)
		q.Id = uint16(n)
		b := packet(t, q)
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(b))), b...)
	}
	for _, part := range slices.Concat([][]byte{stream}, slices.Collect(slices.Chunk(stream, 1))) {
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	c := &dns.Conn{Conn: conn}
	for n := range 2 * len(questions) {
		m, err := c.ReadMsg()
		if err != nil || int(m.Id) != n%len(questions) || m.Question[0].Name != questions[n%len(questions)] {
			t.Fatalf("answer %d: %v, %v", n, m, err)
		}
	}
	if _, err := conn.Write([]byte{0, 3, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after what is no query: %v", err)
	}
}

// TestServeEnds leaves connections open, idle and in the middle of a message.
func TestServeEnds(t *testing.T) {
	s, err := Listen("127.0.0.1:0", responder(t, testCatalog(t), Options{}), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	for _, said := range []string{"", "\x00", "\x00\x20abc"} {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		q := packet(t, newQuery("disc.", dns.TypeSOA))
		if _, err := conn.Write(append(append([]byte{0, byte(len(q))}, q...), said...)); err != nil {
			t.Fatal(err)
		}
		if _, err := (&dns.Conn{Conn: conn}).ReadMsg(); err != nil { // it is being served
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	again, err := net.Listen("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// The end of the server ends a connection at once, wherever in a message it is.
func TestConnectionEndsWithTheServer(t *testing.T) {
	s := &Server{responder: responder(t, testCatalog(t), Options{})}
	query := packet(t, newQuery("disc.", dns.TypeSOA))
	for name, said := range map[string]string{"idle": "", "in a length": "\x00", "in a query": "\x00\x20abc"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				caller, conn := net.Pipe()
				defer caller.Close()
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); s.serveConn(ctx, conn) }()
				if _, err := caller.Write(append([]byte{0, byte(len(query))}, query...)); err != nil {
					t.Fatal(err)
				}
				if _, err := (&dns.Conn{Conn: caller}).ReadMsg(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(caller, said); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				began := time.Now()
				cancel()
				<-ended
				if took := time.Since(began); took != 0 {
					t.Errorf("it ended after %v, want at once", took)
				}
			})
		})
	}
}

func TestListenErrors(t *testing.T) {
	r := responder(t, testCatalog(t), Options{})
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, address := range []string{taken.LocalAddr().String(), "127.0.0.1", "192.0.2.1:53"} {
		if _, err := Listen(address, r, nil); err == nil || !strings.HasPrefix(err.Error(), "listen for DNS on "+address+": ") {
			t.Errorf("%s: %v", address, err)
		}
	}
	s, err := Listen("127.0.0.1:0", r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestTools asks with the tools of operators.
func TestTools(t *testing.T) {
	t.Parallel()
	at := serve(t, "127.0.0.1:0", responder(t, webCatalog(t, 200), Options{}))
	server := []string{"@" + at.Addr().String(), "-p", netip.AddrPortFrom(at.Addr(), at.Port()).String()[len("127.0.0.1:"):]}
	tests := []struct {
		args  string
		lines int // at least; 0: none
		want  string
	}{
		{"+short +edns=0 web.disc A", 70, "10.1.0."},
		{"+short +noedns web.disc A", 29, "10.1.0."},
		{"+short +tcp web.disc A", 200, "10.1.0.199"},
		{"+short _web._tcp.svc.disc SRV", 200, "0 65535 8080 web-199.web.inst.disc."}, // TC, and again over TCP
		{"+short +ignore _web._tcp.svc.disc SRV", 1, ""},
		{"+short web-7.web.inst.disc TXT", 1, `"n=7"`},
		{"+short -x 10.1.0.7", 1, "web-7.web.inst.disc."},
		{"+short _services._dns-sd._udp.svc.disc PTR", 1, "_web._tcp.svc.disc."},
		{"+short disc NS", 1, "7f000001.addr.disc."},
		{"no.disc A", 1, "NXDOMAIN"},
		{"web.disc AAAA", 1, "SOA"},
		{"example.com A", 1, "REFUSED"},
		{"+dnssec disc SOA", 1, "do"},
	}
	complaint := regexp.MustCompile(`(?i)malformed|bad packet|mismatch|extra|unexpected`)
	for _, tool := range []string{"dig", "kdig"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Logf("%s is not installed", tool)
			continue
		}
		for _, tt := range tests {
			out, err := exec.Command(path, append(slices.Clone(server), strings.Fields(tt.args)...)...).CombinedOutput()
			lines := strings.Count(string(out), "\n")
			if err != nil || lines < tt.lines || !strings.Contains(string(out), tt.want) || complaint.Match(out) {
				t.Errorf("%s %s: %d lines, %v\n%.2000s", tool, tt.args, lines, err, out)
			}
		}
	}
}
