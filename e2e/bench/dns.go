package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/miekg/dns"
)

const dnsName = "web.disc."

func dnsRows() []row {
	about := fmt.Sprintf("%%s records of %s over UDP, 10 instances, %d clients, dnsperf", dnsName, connections)
	var all []row
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		name := dns.TypeToString[qtype]
		all = append(all, row{
			name:    "dns-" + name,
			about:   fmt.Sprintf(about, name),
			against: "bare miekg/dns",
			needs:   []string{"dnsperf"},
			figures: []figure{{name: "answers", unit: "/s", bound: atLeast(1)}, {name: "CPU an answer", unit: "µs"}},
			start:   func(ctx context.Context, s *stage) (pair, error) { return startDNS(ctx, s, qtype) },
		})
	}
	return all
}

// runBareDNS is the least DNS server on miekg/dns. It reads a message from its input and
// answers every query over UDP with the records of that message, which it packs each time.
func runBareDNS(ctx context.Context, _ []string, in io.Reader, out io.Writer) error {
	packet, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	answer := new(dns.Msg)
	if err := answer.Unpack(packet); err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative, m.Compress, m.Answer, m.Extra = true, true, answer.Answer, answer.Extra
		w.WriteMsg(m)
	})}
	s.NotifyStartedFunc = func() { fmt.Fprintln(out, ready+conn.LocalAddr().String()) }
	context.AfterFunc(ctx, func() { s.Shutdown() })
	return s.ActivateAndServe()
}

// bareDNS starts a bare server that gives the same answer as an agent.
func (s *stage) bareDNS(a *agent, qtype uint16) (*agent, error) {
	asker := dns.Client{Timeout: waitTimeout}
	answer, _, err := asker.Exchange(new(dns.Msg).SetQuestion(dnsName, qtype), a.dns)
	if err != nil {
		return nil, err
	}
	if len(answer.Answer) != 10 || answer.Truncated {
		return nil, fmt.Errorf("want a whole answer with 10 records, and the agent answers %v", answer)
	}
	packet, err := answer.Pack()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, "answer")
	if err := os.WriteFile(path, packet, 0o600); err != nil {
		return nil, err
	}
	input, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer input.Close()
	bare := &agent{}
	bare.process, bare.dns, err = s.start("dns", input)
	return bare, err
}

func startDNS(ctx context.Context, s *stage, qtype uint16) (pair, error) {
	_, a, err := s.fleet(ctx, 10)
	if err != nil {
		return pair{}, err
	}
	bare, err := s.bareDNS(a, qtype)
	if err != nil {
		return pair{}, err
	}
	questions := filepath.Join(s.dir, "questions")
	if err := os.WriteFile(questions, []byte(dnsName+" "+dns.TypeToString[qtype]+"\n"), 0o600); err != nil {
		return pair{}, err
	}
	side := func(a *agent) side {
		return func(ctx context.Context) ([]float64, error) {
			return measureCPU(a.pid(), func() (load, error) { return dnsperf(ctx, s.window, a.dns, questions) })
		}
	}
	return pair{side(a), side(bare)}, nil
}

var (
	dnsRate  = regexp.MustCompile(`Queries per second:\s*([0-9.]+)`)
	dnsDone  = regexp.MustCompile(`Queries completed:\s*(\d+)`)
	dnsRight = regexp.MustCompile(`NOERROR \d+ \(100.00%\)`)
)

// dnsperf loads a DNS server with the questions of a file for d, in whole seconds.
func dnsperf(ctx context.Context, d time.Duration, address, questions string) (load, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return load{}, err
	}
	out, err := exec.CommandContext(ctx, "dnsperf", "-s", host, "-p", port, "-d", questions,
		"-c", fmt.Sprint(connections), "-q", fmt.Sprint(connections), "-l", fmt.Sprint(max(1, int(d.Seconds())))).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	if !dnsRight.Match(out) {
		return load{}, fmt.Errorf("dnsperf: not every query was answered with NOERROR:\n%s", out)
	}
	var l load
	if l.rate, err = parseFigure(dnsRate, out); err != nil {
		return load{}, err
	}
	l.requests, err = parseFigure(dnsDone, out)
	return l, err
}
