package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Registration is an instance and its checks, for an agent to register. The config file
// and the HTTP API share it.
type Registration struct {
	Service         string      `json:"service,omitempty" yaml:"service"`
	ID              string      `json:"id,omitempty" yaml:"id"`
	Address         string      `json:"address,omitempty" yaml:"address"` // default: the advertised address
	Port            int         `json:"port,omitempty" yaml:"port"`
	Ports           Ports       `json:"ports,omitempty" yaml:"ports"`
	Zone            string      `json:"zone,omitempty" yaml:"zone"`     // default: the node's
	Weight          *int        `json:"weight,omitempty" yaml:"weight"` // default 1
	Slots           *int        `json:"slots,omitempty" yaml:"slots"`   // default 1
	Tags            Tags        `json:"tags,omitempty" yaml:"tags"`
	Meta            Meta        `json:"meta,omitempty" yaml:"meta"`
	Checks          []CheckSpec `json:"checks,omitempty" yaml:"checks"`
	DeregisterAfter *Duration   `json:"deregister_after,omitempty" yaml:"deregister_after"` // API only; how long it may be critical; default: for ever
}

// WithDefaults returns the registration with its absent fields filled in: the host's
// address and zone, and the checks' defaults and ids. The id of a check is its type, then
// "<type>-2" and so on.
func (r Registration) WithDefaults(address, zone string) Registration {
	r.Address, r.Zone = cmp.Or(r.Address, address), cmp.Or(r.Zone, zone)
	r.Checks = slices.Clone(r.Checks)
	taken := map[string]bool{}
	for _, c := range r.Checks {
		taken[c.ID] = true
	}
	for n := range r.Checks {
		c := r.Checks[n].WithDefaults()
		c.ID = cmp.Or(c.ID, freeID(c.Type, taken))
		taken[c.ID] = true
		r.Checks[n] = c
	}
	return r
}

// freeID returns the first of "http", "http-2", "http-3"… that is not taken.
func freeID(t CheckType, taken map[string]bool) string {
	id := string(t)
	for n := 2; taken[id]; n++ {
		id = fmt.Sprintf("%s-%d", t, n)
	}
	return id
}

// Instance returns the instance to register. Its address is canonical. Its status is passing without checks, and
// critical with checks, since none has a result yet.
func (r Registration) Instance() Instance {
	i := Instance{
		Service: r.Service, ID: r.ID, Address: CanonicalAddress(r.Address), Port: r.Port, Ports: r.Ports, Zone: r.Zone,
		Weight: 1, Slots: 1, Tags: r.Tags, Meta: r.Meta, Status: Passing,
	}
	if r.Weight != nil {
		i.Weight = *r.Weight
	}
	if r.Slots != nil {
		i.Slots = *r.Slots
	}
	for _, c := range r.Checks {
		i.Checks = append(i.Checks, CheckStatus{ID: c.ID, Name: c.Name, Type: c.Type, Status: Critical})
		i.Status = Critical
	}
	return i
}

// MaxChecks is the greatest number of checks of an instance.
const MaxChecks = 32

// Validate returns an [ErrInvalid] that names everything wrong with a registration that
// has its defaults.
func (r Registration) Validate() error {
	errs := []error{r.ValidateStored(), r.Instance().validateWritten()}
	for n, c := range r.Checks {
		if err := c.Validate(); err != nil {
			continue // ValidateStored has said so
		}
		if err := c.validateWritten(); err != nil {
			errs = append(errs, fmt.Errorf("checks[%d]: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

// ValidateStored returns an [ErrInvalid] that names everything wrong with a registration in an
// agent's data directory. It accepts all that an earlier version stored.
func (r Registration) ValidateStored() error {
	errs := []error{r.Instance().ValidateStored()}
	if len(r.Checks) > MaxChecks {
		errs = append(errs, Errorf(ErrInvalid, "%d checks are too many; at most %d are allowed", len(r.Checks), MaxChecks))
	}
	seen := map[string]bool{}
	for n, c := range r.Checks {
		where := fmt.Sprintf("checks[%d]", n)
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		if seen[c.ID] {
			errs = append(errs, Errorf(ErrInvalid, "%s: id %q is taken by another check", where, c.ID))
		}
		seen[c.ID] = true
		if (c.Type == CheckTCP || c.Type == CheckGRPC) && c.Address == "" && r.Port == 0 {
			errs = append(errs, Errorf(ErrInvalid, "%s: a %s check needs an address, or an instance with a port", where, c.Type))
		}
	}
	if r.DeregisterAfter != nil && *r.DeregisterAfter <= 0 {
		errs = append(errs, Errorf(ErrInvalid, "deregister_after %v is out of range; it must be above 0", *r.DeregisterAfter))
	}
	if size := len(r.Instance().Encode()); size > MaxRecord {
		errs = append(errs, Errorf(ErrInvalid, "the instance has %d bytes; at most %d are allowed", size, MaxRecord))
	}
	return errors.Join(errs...)
}

// MaxReregisterJitter is the longest random delay after which an agent writes its records
// again when etcd was away or started over. A view that waits for the fleet to come back
// waits for it.
const MaxReregisterJitter = 5 * time.Second
