package attack_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// dnsAttacks are attacks on DNS, over TCP and UDP.
var dnsAttacks = []attack{
	{name: "idle connections", run: func(ctx context.Context, t *target) error { return t.crowd(ctx, "") }},
	{name: "unfinished queries", run: func(ctx context.Context, t *target) error {
		return t.crowd(ctx, "\xff\xff"+strings.Repeat("x", 60_000))
	}},
	{name: "readers that do not read", run: func(ctx context.Context, t *target) error {
		return t.crowd(ctx, strings.Repeat(overTCP(query("web.disc.")), 500))
	}},
	{name: "names", run: func(ctx context.Context, t *target) error {
		return t.flood(ctx, func(n int) string { return overTCP(query(fmt.Sprintf("n%d.disc.", n))) })
	}},
	{name: "names over UDP", run: func(ctx context.Context, t *target) error {
		return t.datagrams(ctx, func(n int) string { return query(fmt.Sprintf("n%d.disc.", n)) })
	}},
	{name: "odd datagrams", run: func(ctx context.Context, t *target) error {
		random := rand.New(rand.NewPCG(1, 2))
		return t.datagrams(ctx, func(int) string {
			b := []byte(query("_http._tcp.web.svc.disc."))
			for range 4 {
				b[random.IntN(len(b))] = byte(random.Uint32())
			}
			return string(b[:random.IntN(len(b)+1)])
		})
	}},
}

// query returns a DNS query in wire format.
func query(name string) string {
	b, err := new(dns.Msg).SetQuestion(name, dns.TypeSRV).SetEdns0(4096, false).Pack()
	if err != nil {
		panic(err) // the names are constant but for a number
	}
	return string(b)
}

func overTCP(message string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(message)))) + message
}

// datagrams sends numbered datagrams until ctx ends.
func (t *target) datagrams(ctx context.Context, datagram func(n int) string) error {
	conn, err := net.Dial("udp", t.dns)
	if err != nil {
		return err
	}
	defer conn.Close()
	for n := 0; ctx.Err() == nil; n++ {
		if _, err := conn.Write([]byte(datagram(n))); err == nil { // one that does not fit in the socket is lost
			t.did.Add(1)
		}
	}
	return nil
}
