package dns

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// DefaultDomain is the domain of a Responder without [Options.Domain].
const DefaultDomain = "disc."

// maxDomain is the greatest length of a domain, in bytes. It leaves room in a name (255
// bytes, RFC 1035) for the name of an address in the domain.
const maxDomain = 200

// Catalog is the local view of the fleet.
type Catalog interface {
	// View returns the newest snapshot and its age; until there is one, an error. It is
	// called for every query and does not block.
	View() (view.View, error)
	// Has reports whether the view has the scopes, as far as they exist in etcd. It does
	// not block.
	Has(scopes ...discovery.Scope) bool
	// Ensure reads the scopes that the view lacks from etcd, as far as they exist.
	Ensure(ctx context.Context, scopes ...discovery.Scope) error
	// ServiceNames returns the folded names of all services, sorted.
	ServiceNames(ctx context.Context) ([]string, error)
}

// Options are the options of a Responder. The zero value is useful.
type Options struct {
	Domain string        // the domain to answer for; default DefaultDomain
	TTL    time.Duration // of all records, in whole seconds, up to 24 h; 0: resolvers do not cache them

	// PreferZone is the zone whose instances come first: in the order of records, and by
	// the priority of SRV records, which is 0 for this zone and 1 for others. Empty: none.
	PreferZone string

	Panic float64 // a lookup's panic threshold, 0 to 1; default 0: none

	// Nameserver is the address of this server in the NS record. Default 127.0.0.1.
	Nameserver netip.Addr

	Registerer prometheus.Registerer // gets the metrics; nil: they are not registered
}

// zone is what all answers depend on besides the view.
type zone struct {
	domain     string // lower case, fully qualified
	wire       []byte // domain as a packet has it
	ttl        uint32
	preferZone string
	panic      float64
	nameserver netip.Addr

	namesByAddress, caseDuplicates *memoKey // in the memos of services
}

// memoKey is a key in the memos of services. Its address counts; name is for debugging.
type memoKey struct{ name string }

func newZone(o Options) (*zone, error) {
	q := lookup.Query{PanicThreshold: o.Panic}
	if err := q.Validate(); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	if o.TTL < 0 || o.TTL > 24*time.Hour {
		return nil, discovery.Errorf(discovery.ErrInvalid, "dns: TTL %v is out of range; use 0s to 24h", o.TTL)
	}
	domain := strings.ToLower(dns.Fqdn(cmp.Or(o.Domain, DefaultDomain)))
	wire := make([]byte, maxDomain)
	n, err := dns.PackDomainName(domain, wire, 0, nil, false)
	if _, ok := dns.IsDomainName(domain); !ok || err != nil || domain == "." {
		return nil, discovery.Errorf(discovery.ErrInvalid, "dns: %q is not a domain, or has more than %d bytes; use one such as disc.", o.Domain, maxDomain)
	}
	nameserver := o.Nameserver.Unmap().WithZone("")
	if !nameserver.IsValid() || nameserver.IsUnspecified() {
		nameserver = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return &zone{
		domain: domain, wire: wire[:n], ttl: uint32(o.TTL / time.Second), preferZone: o.PreferZone, panic: o.Panic, nameserver: nameserver,
		namesByAddress: &memoKey{"names by address"}, caseDuplicates: &memoKey{"ids that differ in case"},
	}, nil
}
