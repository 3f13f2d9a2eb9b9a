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

// DefaultDomain is the domain that is answered unless another is set.
const DefaultDomain = "disc."

// maxDomain leaves room in a name (255 bytes, RFC 1035) for an address in the domain.
const maxDomain = 200

// Catalog is the local view of the fleet.
type Catalog interface {
	// View returns the newest snapshot and how sure it is; until there is one, an
	// error. It is called for every query and does not block.
	View() (view.View, error)
	// Has reports whether the view has parts, as far as they exist. It does not block.
	Has(parts ...discovery.Scope) bool
	// Ensure makes the view have parts, as far as they exist, by reading etcd.
	Ensure(ctx context.Context, parts ...discovery.Scope) error
	// Names returns the folded names of all services, sorted.
	Names(ctx context.Context) ([]string, error)
}

// Options are the optional parts of a Responder. The zero value is useful.
type Options struct {
	Domain string        // what is answered; default DefaultDomain
	TTL    time.Duration // of all records, in whole seconds, up to 24 h; 0: not to be cached

	// PreferZone names the zone whose instances come first: in the order of records,
	// and by the priority of SRV, where 0 is this zone and 1 the others. Empty: none.
	PreferZone string

	Panic float64 // a lookup's panic threshold, 0 to 1; default 0: none

	// Nameserver is the address at which others reach this server; the NS record
	// names it. Default 127.0.0.1.
	Nameserver netip.Addr

	Registerer prometheus.Registerer // gets the metrics; nil: nobody does
}

// zone is what all answers have in common.
type zone struct {
	domain     string // lower case, fully qualified
	wire       []byte // the same as in a packet
	ttl        uint32
	preferZone string
	panic      float64
	nameserver netip.Addr

	reverse, twins *memoKey // of what is derived from a service
}

// memoKey is the key of something in a service's memo, by its address.
type memoKey struct{ what string }

func newZone(o Options) (*zone, error) {
	q := lookup.Query{Panic: o.Panic}
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
		return nil, discovery.Errorf(discovery.ErrInvalid, "dns: %q is no domain, or has more than %d bytes; use one such as disc.", o.Domain, maxDomain)
	}
	nameserver := o.Nameserver.Unmap().WithZone("")
	if !nameserver.IsValid() || nameserver.IsUnspecified() {
		nameserver = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return &zone{
		domain: domain, wire: wire[:n], ttl: uint32(o.TTL / time.Second), preferZone: o.PreferZone, panic: o.Panic, nameserver: nameserver,
		reverse: &memoKey{"names by address"}, twins: &memoKey{"ids that differ in case"},
	}, nil
}
