// Package dns answers lookups as DNS does: over UDP and TCP by a [Server], and in the
// forms of DNS over HTTPS by a [Responder], from the agent's view and with the same
// [discovery.Lookup] as every other protocol.
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
// The domain itself has SOA and NS records. Outside of it only the reverse names of
// addresses that the view knows are answered; all else is REFUSED, since the server is
// no recursor.
//
// # Nothing to say
//
// A name that is known but has nothing of the asked type is answered with NODATA:
// NOERROR and the SOA alone (RFC 2308). So is a service that is known but has nobody
// healthy, since the name exists, and others of its types may come back at any moment;
// a resolver that follows RFC 8020 would take an NXDOMAIN for all names below it too.
// Names in between, such as inst or web.inst, exist as well. A service that was never
// there, a tag or port that no instance has and an instance that is not there are
// NXDOMAIN. Until there is a view, every name in the domain is a SERVFAIL.
//
// An instance whose address is a host name is answered as that name: the target of its
// SRV record, and, where no instance has an IP address, a CNAME for A and AAAA.
//
// # What fits
//
// Over UDP an answer has 512 bytes or, with EDNS (RFC 6891), what the query allows up
// to 1232. A and AAAA are cut to a random part of the instances, since any will do and
// a repetition over TCP would cost more. Of other types the additional records go
// first; when that is not enough the answer says that it is truncated.
package dns
