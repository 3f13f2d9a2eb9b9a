package dns

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// wire returns the packet that pieces of hexadecimal digits form.
func wire(t testing.TB, pieces ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(pieces, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	webDisc = "03 776562 04 64697363 00" // web.disc.
	typeA   = "0001 0001"
	opt     = "00 0029 04d0 00 00 0000 0000"
)

func TestForms(t *testing.T) {
	one := "1234 0100 0001 0000 0000 0000" // one question
	withOne := "1234 0100 0001 0000 0000 0001"
	tests := []struct {
		name   string
		packet []byte
		want   string // "": no answer
	}{
		{"empty", nil, ""},
		{"short", wire(t, "1234 0100 0001 0000 0000 00"), ""},
		{"a response", wire(t, "1234 8100 0001 0000 0000 0000", webDisc, typeA), ""},
		{"plain", wire(t, one, webDisc, typeA), "NOERROR"},
		{"class ANY", wire(t, one, webDisc, "0001 00ff"), "NOERROR"},
		{"class CH", wire(t, one, webDisc, "0001 0003"), "REFUSED not-aa"},
		{"no question", wire(t, "1234 0100 0000 0000 0000 0000"), "FORMERR not-aa"},
		{"two questions", wire(t, "1234 0100 0002 0000 0000 0000", webDisc, typeA, webDisc, typeA), "FORMERR not-aa"},
		{"IQUERY", wire(t, "1234 0900 0001 0000 0000 0000", webDisc, typeA), "NOTIMP not-aa"},
		{"STATUS", wire(t, "1234 1100 0001 0000 0000 0000", webDisc, typeA), "NOTIMP not-aa"},
		{"NOTIFY", wire(t, "1234 2100 0001 0000 0000 0000", webDisc, "0006 0001"), "NOTIMP not-aa"},
		{"UPDATE", wire(t, "1234 2900 0001 0000 0000 0000", webDisc, "0006 0001"), "NOTIMP not-aa"},
		{"question missing", wire(t, one), "FORMERR not-aa"},
		{"name cut", wire(t, one, "03 7765"), "FORMERR not-aa"},
		{"name without end", wire(t, one, "03 776562"), "FORMERR not-aa"},
		{"type cut", wire(t, one, webDisc, "0001 00"), "FORMERR not-aa"},
		{"pointer", wire(t, one, "03 776562 c00c", typeA), "FORMERR not-aa"},
		{"label of 64", wire(t, one, "40", strings.Repeat("61", 64), "00", typeA), "FORMERR not-aa"},
		{"name of 256", wire(t, one, strings.Repeat("01 61", 127), "01 61 00", typeA), "FORMERR not-aa"},
		{"name of 255", wire(t, one, strings.Repeat("01 61", 127), "00", typeA), "REFUSED not-aa"},
		{"behind the end", wire(t, one, webDisc, typeA, "00"), "FORMERR not-aa"},
		{"EDNS", wire(t, withOne, webDisc, typeA, opt), "NOERROR"},
		{"EDNS missing", wire(t, withOne, webDisc, typeA), "FORMERR not-aa"},
		{"EDNS twice", wire(t, "1234 0100 0001 0000 0000 0002", webDisc, typeA, opt, opt), "FORMERR not-aa"},
		{"EDNS among answers", wire(t, "1234 0100 0001 0001 0000 0000", webDisc, typeA, opt), "FORMERR not-aa"},
		{"EDNS with a name", wire(t, withOne, webDisc, typeA, "c00c 0029 04d0 0000 0000 0000"), "FORMERR not-aa"},
		{"EDNS cut", wire(t, withOne, webDisc, typeA, "00 0029 04d0 0000"), "FORMERR not-aa"},
		{"EDNS option", wire(t, withOne, webDisc, typeA, "00 0029 04d0 0000 0000 000c 000a 0008 0102030405060708"), "NOERROR"},
		{"EDNS option cut", wire(t, withOne, webDisc, typeA, "00 0029 04d0 0000 0000 0006 000a 0008 0102"), "FORMERR not-aa"},
		{"EDNS option cut short", wire(t, withOne, webDisc, typeA, "00 0029 04d0 0000 0000 0002 000a"), "FORMERR not-aa"},
		{"EDNS version 1", wire(t, withOne, webDisc, typeA, "00 0029 04d0 0001 0000 0000"), "BADVERS not-aa"},
		{"another record", wire(t, withOne, webDisc, typeA, "c00c 0001 0001 00000001 0004 01020304"), "NOERROR"},
		{"record's name bad", wire(t, withOne, webDisc, typeA, "80 0001 0001 00000001 0000"), "FORMERR not-aa"},
	}
	r := responder(t, testCatalog(t), Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, _, ok := r.respond(nil, nil, tt.packet, udpLimit)
			if !ok {
				if tt.want != "" || len(b) > 0 {
					t.Errorf("%s: no answer, want %s", tt.name, tt.want)
				}
				if _, _, err := r.Exchange(tt.packet, wholeSize); err == nil {
					t.Errorf("%s: Exchange answers", tt.name)
				}
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Errorf("%s: %v", tt.name, err)
				return
			}
			got, _, _ := strings.Cut(show(m), " |")
			if got != tt.want || m.Id != 0x1234 || !m.Response || m.RecursionAvailable || !m.RecursionDesired || m.Opcode != int(tt.packet[2]>>3&0xf) {
				t.Errorf("%s: %s, want %s\n%v", tt.name, got, tt.want, m)
			}
			if wantOPT := bytes.HasSuffix(tt.packet, wire(t, opt)) && m.Rcode == dns.RcodeSuccess; wantOPT && m.IsEdns0() == nil {
				t.Errorf("%s: no OPT record", tt.name)
			}
		})
	}
}

func TestFlagsAreCopied(t *testing.T) {
	r := responder(t, testCatalog(t), Options{})
	q := newQuery("web.disc.", dns.TypeA).SetEdns0(4096, true)
	q.RecursionDesired, q.AuthenticatedData, q.CheckingDisabled = false, true, true
	m := exchange(t, r, q, 0)
	if m.RecursionDesired || m.AuthenticatedData || !m.Authoritative {
		t.Errorf("flags: %v", m.MsgHdr)
	}
	if o := m.IsEdns0(); o == nil || !o.Do() || o.UDPSize() != ednsSize || o.Version() != 0 || len(o.Option) != 0 {
		t.Errorf("OPT: %v", o)
	}
	q = newQuery("web.disc.", dns.TypeA).SetEdns0(4096, false)
	q.IsEdns0().SetVersion(3)
	if o := exchange(t, r, q, 0).IsEdns0(); o == nil || o.Do() || o.Version() != 0 {
		t.Errorf("OPT: %v", o)
	}
	if m := exchange(t, r, newQuery("web.disc.", dns.TypeA), 0); m.IsEdns0() != nil {
		t.Error("an OPT record without one in the query")
	}
}

// TestCaseOfTheQuestion checks that answers, cached or not, repeat the spelling of the
// question in the question and the owners (draft-vixie-dnsext-dns0x20).
func TestCaseOfTheQuestion(t *testing.T) {
	r := responder(t, testCatalog(t), Options{})
	for _, name := range []string{"wEb.sVc.DiSc.", "WEB.svc.disc.", "weB-1.Web.INST.disc.", "_gRPC._tCp.weB.sVC.dISc.", "NoThInG.dIsC.", "6.0.0.10.In-aDDr.ARPA."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeMX} {
			for range 3 {
				m := exchange(t, r, newQuery(name, qtype), 0)
				if m.Question[0].Name != name || m.Question[0].Qtype != qtype {
					t.Errorf("question %v, want %s", m.Question[0], name)
				}
				for _, rr := range m.Answer {
					if rr.Header().Name != name {
						t.Errorf("%s: owner %s", name, rr.Header().Name)
					}
				}
				for _, rr := range m.Ns {
					if !strings.HasSuffix(name, rr.Header().Name) {
						t.Errorf("%s: authority %s", name, rr.Header().Name)
					}
				}
			}
		}
	}
}

func FuzzPackets(f *testing.F) {
	r := responder(f, testCatalog(f), Options{})
	for _, name := range []string{
		"web.disc.", "_web._tcp.svc.disc.", `a\.b._odd._tcp.svc.disc.`, "x.node.disc.", "b.odd.inst.disc.", "_services._dns-sd._udp.svc.disc.",
		"5.0.0.10.in-addr.arpa.", "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", `\255\000.disc.`, "disc.", ".",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeANY, dns.TypeSOA, dns.TypeNS} {
			f.Add(packet(f, newQuery(name, qtype)))
			f.Add(packet(f, newQuery(name, qtype).SetEdns0(1232, true)))
		}
	}
	f.Add(wire(f, "1234 0100 0001 0000 0000 0001", webDisc, typeA, "00 0029 04d0 0000 0000 000c 000a 0008 0102030405060708"))
	f.Add(wire(f, "1234 2900 0001 0001 0001 0001", webDisc, typeA, opt))
	f.Fuzz(func(t *testing.T, query []byte) {
		for _, limit := range []int{0, wholeSize} {
			b, rcode, ok := r.respond(nil, []byte("ab"), query, limit)
			if !ok {
				if len(query) >= headerSize && query[2]&0x80 == 0 {
					t.Fatal("a query without an answer")
				}
				continue
			}
			checkAnswer(t, query, b[2:], rcode, limit)
		}
	})
}

// checkAnswer checks what holds for every answer.
func checkAnswer(t *testing.T, query, b []byte, rcode, limit int) {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("unpack: %v\n%x", err, b)
	}
	q, alone := new(dns.Msg), bytes.Clone(query)
	copy(alone[6:headerSize], make([]byte, 6)) // what is in the records that are passed over is of no concern
	understood := q.Unpack(alone) == nil && len(q.Question) == 1
	switch {
	case !bytes.Equal(b[:2], query[:2]) || !m.Response || m.RecursionAvailable:
		t.Fatalf("header %v of the answer to %x", m.MsgHdr, query)
	case limit == 0 && (len(b) > ednsSize || len(b) > plainSize && m.IsEdns0() == nil):
		t.Fatalf("%d bytes over UDP", len(b))
	case rcode == dns.RcodeServerFailure:
		t.Fatal("SERVFAIL with a view")
	case (rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError) && (!understood || len(m.Question) != 1 || m.Question[0] != q.Question[0]):
		t.Fatalf("answer %v to %x", m, query)
	case rcode == dns.RcodeNameError && (len(m.Answer) > 0 || len(m.Ns) != 1), rcode == dns.RcodeSuccess && (len(m.Answer) == 0) != (len(m.Ns) == 1):
		t.Fatalf("sections of %v", m)
	}
	again, err := m.Pack()
	if err != nil || len(again) == 0 {
		t.Fatalf("pack again: %v", err)
	}
}
