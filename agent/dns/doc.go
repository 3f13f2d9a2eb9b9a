// Package dns answers lookups over DNS: a [Server] over UDP and TCP, and a [Responder] in
// the forms of DNS over HTTPS. Both answer from the agent's view by the same
// [lookup.Lookup] as every other protocol.
//
//	r, err := dns.New(catalog, dns.Options{Domain: "disc.", TTL: time.Second})
//	s, err := dns.Listen("127.0.0.1:3453", r, logger)
//	err = s.Serve(ctx)
//
// # Names
//
// Below the domain, in any case (RFC 4343):
//
//	web  web.svc  v2.web  v2.web.svc       A, AAAA, SRV, TXT: a service, of one tag
//	_web._tcp.svc  _grpc._tcp.web.svc      the same, at the main or a named port; PTR: its instances
//	web-1.web.inst                         A, AAAA, SRV, TXT: one instance
//	host-1.node                            A, AAAA: a node
//	0a000005.addr                          A or AAAA: an address in hexadecimal digits
//	_services._dns-sd._udp.svc             PTR: all services (RFC 6763, section 9)
//	web-1._web._tcp.svc                    SRV, TXT: an instance as DNS-SD names it
//
// The domain itself has SOA and NS records. Outside of the domain the server answers only
// for the reverse names of addresses in the view. It is not a recursor: all other names
// are REFUSED.
//
// # Forged queries
//
// The source address of a query over UDP may be forged. [Server.Networks] are the clients that are
// answered at all, and [Server.RateLimit] keeps a flood from being amplified (BCP 140): beyond
// it answers are truncated to the question. An answer to ANY has one record (RFC 8482), and none
// over UDP has more than 1,232 bytes.
//
// # Negative answers
//
// NODATA (RFC 2308: NOERROR with the SOA alone) answers a name that exists but has no
// record of the type in the question. A known service without a healthy instance is
// NODATA too: the name exists, and its instances may come back at any moment. A resolver
// that follows RFC 8020 would apply an NXDOMAIN to all names below it. Names between
// others, such as inst or web.inst, exist as well.
//
// NXDOMAIN answers for a service that never was, a tag or port that no instance has, and
// an instance that does not exist. SERVFAIL answers for every name in the domain until
// there is a view.
//
// # Host names as addresses
//
// Where the address of an instance is a host name, that name is the target of its SRV
// record. Where no instance of a service has an IP address, A and AAAA are answered with
// a CNAME to such a name.
//
// # Size
//
// Over UDP an answer has up to 512 bytes or, with EDNS (RFC 6891), what the query allows,
// up to 1232 bytes; a client on loopback gets up to 65494. An answer of A or AAAA that is too long has a random part of the instances:
// any of them will do, and to repeat the query over TCP would cost more. Of other types
// the additional records are left out first; when that is not enough, the answer is
// marked as truncated.
package dns
