package discovery

import (
	"fmt"
	"net/netip"
)

// forbiddenTargets are the networks that a check from the HTTP API never probes.
var forbiddenTargets = []struct {
	network netip.Prefix
	what    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds serve credentials"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "of the metadata service of AWS"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "the metadata service of Google Cloud"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the platform service of Azure"},
	{netip.MustParsePrefix("100.100.100.200/32"), "the metadata service of Alibaba Cloud"},
	{netip.MustParsePrefix("192.0.0.192/32"), "the metadata service of Oracle Cloud"},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "the metadata service of Oracle Cloud"},
	{netip.MustParsePrefix("fd00:42::42/128"), "the metadata service of Scaleway"},
}

// ForbiddenTarget says why a check from the HTTP API never probes an address, whatever the
// settings allow: it is unspecified, link-local, multicast, broadcast or a cloud's metadata
// service, or it is an IPv6 form of such an IPv4 address. "" means that the settings decide.
func ForbiddenTarget(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	if a.IsLoopback() {
		return ""
	}
	for _, f := range forbiddenTargets {
		if f.network.Contains(a) {
			return f.what
		}
	}
	for _, inner := range embedded(a) {
		what := ForbiddenTarget(inner)
		if inner.IsLoopback() {
			what = "loopback"
		}
		if what != "" {
			return fmt.Sprintf("a form of %s, which is %s", inner, what)
		}
	}
	return ""
}

// ForbiddenNetwork says why a check from the HTTP API never probes any address of a network;
// "": it may probe some.
func ForbiddenNetwork(p netip.Prefix) string {
	for _, f := range forbiddenTargets {
		if p.Bits() >= f.network.Bits() && f.network.Contains(p.Addr()) {
			return f.what
		}
	}
	if p.IsSingleIP() {
		return ForbiddenTarget(p.Addr())
	}
	return ""
}

// embeddings are the networks of IPv6 addresses that carry an IPv4 address, and the bytes at
// which they do.
var embeddings = []struct {
	network netip.Prefix
	at      [4]int
}{
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}},           // IPv4-compatible (RFC 4291)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [4]int{12, 13, 14, 15}}, // IPv4-translated (RFC 7915)
	{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}},  // local NAT64 (RFC 8215), with a /96
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}},     // the same, with a /48 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{7, 9, 10, 11}},    // with a /56
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{9, 10, 11, 12}},   // with a /64
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}},           // 6to4 (RFC 3056)
}

// embedded returns the IPv4 addresses that an IPv6 address may stand for, except those of
// 0.0.0.0/8, which no translator sends to.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	var inner []netip.Addr
	bytes := a.As16()
	for _, e := range embeddings {
		if e.network.Contains(a) && bytes[e.at[0]] != 0 {
			inner = append(inner, netip.AddrFrom4([4]byte{bytes[e.at[0]], bytes[e.at[1]], bytes[e.at[2]], bytes[e.at[3]]}))
		}
	}
	return inner
}
