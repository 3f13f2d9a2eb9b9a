package discovery

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Duration is a [time.Duration] that is written as a string, "10s", in JSON and YAML.
type Duration time.Duration

// MarshalText writes the duration as [time.Duration.String] does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what [time.ParseDuration] reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return Errorf(ErrInvalid, "duration %q is not one; write it as 500ms, 10s or 1h30m", text)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// CheckType is how a check probes.
type CheckType string

// The types of checks.
const (
	CheckHTTP CheckType = "http" // GET a URL: 2xx passing, 429 warning, else critical
	CheckTCP  CheckType = "tcp"  // connect
	CheckGRPC CheckType = "grpc" // grpc.health.v1
	CheckExec CheckType = "exec" // run a command: exit 0 passing, 1 warning, else critical
	CheckTTL  CheckType = "ttl"  // the service reports by itself, within the TTL
)

// Defaults of checks.
const (
	DefaultCheckInterval = 10 * time.Second
	DefaultCheckTimeout  = 5 * time.Second // or the interval, if that is lower
	DefaultFailures      = 2               // failure_threshold
	DefaultSuccesses     = 1               // success_threshold
)

// CheckSpec says how an instance is checked. Absent fields are defaults; see
// [CheckSpec.WithDefaults].
type CheckSpec struct {
	ID               string            `json:"id,omitempty" yaml:"id"`
	Name             string            `json:"name,omitempty" yaml:"name"`
	Type             CheckType         `json:"type" yaml:"type"`
	URL              string            `json:"url,omitempty" yaml:"url"`         // http
	Method           string            `json:"method,omitempty" yaml:"method"`   // http; default GET
	Headers          map[string]string `json:"headers,omitempty" yaml:"headers"` // http
	Address          string            `json:"address,omitempty" yaml:"address"` // tcp, grpc: host:port; default the instance's
	Service          string            `json:"service,omitempty" yaml:"service"` // grpc: the name asked for
	TLS              bool              `json:"tls,omitempty" yaml:"tls"`         // grpc
	Command          []string          `json:"command,omitempty" yaml:"command"` // exec
	TTL              Duration          `json:"ttl,omitempty" yaml:"ttl"`         // ttl
	Interval         Duration          `json:"interval,omitempty" yaml:"interval"`
	Timeout          Duration          `json:"timeout,omitempty" yaml:"timeout"`
	SuccessThreshold int               `json:"success_threshold,omitempty" yaml:"success_threshold"`
	FailureThreshold int               `json:"failure_threshold,omitempty" yaml:"failure_threshold"`
}

// WithDefaults fills in what is absent, but for the id, which depends on the check's
// neighbours.
func (c CheckSpec) WithDefaults() CheckSpec {
	if c.Type == CheckTTL {
		return c
	}
	if c.Interval == 0 {
		c.Interval = Duration(DefaultCheckInterval)
	}
	if c.Timeout == 0 {
		c.Timeout = min(Duration(DefaultCheckTimeout), c.Interval)
	}
	if c.SuccessThreshold == 0 {
		c.SuccessThreshold = DefaultSuccesses
	}
	if c.FailureThreshold == 0 {
		c.FailureThreshold = DefaultFailures
	}
	if c.Type == CheckHTTP && c.Method == "" {
		c.Method = "GET"
	}
	return c
}

// Validate returns an [ErrInvalid] naming all that is wrong with a check that has
// its defaults.
func (c CheckSpec) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, Errorf(ErrInvalid, format, args...)) }
	if c.ID != "" {
		errs = append(errs, validate("check id", c.ID, "-_.:", MaxID))
	}
	switch c.Type {
	case CheckHTTP:
		if u, err := url.Parse(c.URL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			bad("url %q is no http or https URL", c.URL)
		}
	case CheckExec:
		if len(c.Command) == 0 || c.Command[0] == "" {
			bad("command is missing; give a list: [/usr/local/bin/probe, --quick]")
		}
	case CheckTTL:
		if c.TTL < Duration(100*time.Millisecond) {
			bad("ttl %v is missing or below 100ms", c.TTL)
		}
	case CheckTCP, CheckGRPC:
	default:
		bad("type %q is unknown; use http, tcp, grpc, exec or ttl", string(c.Type))
	}
	if c.Type != CheckTTL {
		if c.Interval < Duration(100*time.Millisecond) || c.Interval > Duration(24*time.Hour) {
			bad("interval %v is out of range; use 100ms to 24h", c.Interval)
		}
		if c.Timeout <= 0 || c.Timeout > c.Interval {
			bad("timeout %v is out of range; it must be above 0 and at most the interval, %v", c.Timeout, c.Interval)
		}
		errs = append(errs,
			validateRange("success_threshold", c.SuccessThreshold, 1, 100),
			validateRange("failure_threshold", c.FailureThreshold, 1, 100))
	}
	errs = append(errs, c.validateUnused()...)
	return errors.Join(errs...)
}

// validateUnused refuses fields that the check's type does not read: an operator
// who writes one believes that it does something.
func (c CheckSpec) validateUnused() []error {
	var errs []error
	for _, f := range []struct {
		name string
		set  bool
		used []CheckType
	}{
		{"url", c.URL != "", []CheckType{CheckHTTP}},
		{"method", c.Method != "", []CheckType{CheckHTTP}},
		{"headers", len(c.Headers) > 0, []CheckType{CheckHTTP}},
		{"address", c.Address != "", []CheckType{CheckTCP, CheckGRPC}},
		{"service", c.Service != "", []CheckType{CheckGRPC}},
		{"tls", c.TLS, []CheckType{CheckGRPC}},
		{"command", len(c.Command) > 0, []CheckType{CheckExec}},
		{"ttl", c.TTL != 0, []CheckType{CheckTTL}},
		{"interval", c.Interval != 0, []CheckType{CheckHTTP, CheckTCP, CheckGRPC, CheckExec}},
		{"timeout", c.Timeout != 0, []CheckType{CheckHTTP, CheckTCP, CheckGRPC, CheckExec}},
		{"success_threshold", c.SuccessThreshold != 0, []CheckType{CheckHTTP, CheckTCP, CheckGRPC, CheckExec}},
		{"failure_threshold", c.FailureThreshold != 0, []CheckType{CheckHTTP, CheckTCP, CheckGRPC, CheckExec}},
	} {
		known := c.Type == CheckHTTP || c.Type == CheckTCP || c.Type == CheckGRPC || c.Type == CheckExec || c.Type == CheckTTL
		if f.set && known && !slices.Contains(f.used, c.Type) {
			errs = append(errs, Errorf(ErrInvalid, "%s is not a setting of a %s check", f.name, c.Type))
		}
	}
	return errs
}

// Registration is what an agent is told to register: an instance and its checks.
// The config file and the HTTP API share it.
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
	DeregisterAfter *Duration   `json:"deregister_after,omitempty" yaml:"deregister_after"` // API only; default 1h
}

// WithDefaults fills in the address and zone of the host, the checks' defaults and
// their ids: the type, then "<type>-2" and so on.
func (r Registration) WithDefaults(address, zone string) Registration {
	if r.Address == "" {
		r.Address = address
	}
	if r.Zone == "" {
		r.Zone = zone
	}
	taken := map[string]bool{}
	for _, c := range r.Checks {
		taken[c.ID] = true
	}
	checks := make([]CheckSpec, len(r.Checks))
	for n, c := range r.Checks {
		c = c.WithDefaults()
		for try := 1; c.ID == ""; try++ {
			id := string(c.Type)
			if try > 1 {
				id = fmt.Sprintf("%s-%d", c.Type, try)
			}
			if !taken[id] {
				c.ID, taken[id] = id, true
			}
		}
		checks[n] = c
	}
	r.Checks = checks
	return r
}

// Instance returns the instance to register. Its status is passing without checks
// and critical with them, since they have not spoken yet.
func (r Registration) Instance() Instance {
	i := Instance{
		Service: r.Service, ID: r.ID, Address: r.Address, Port: r.Port, Ports: r.Ports, Zone: r.Zone,
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

// MaxChecks is how many checks an instance may have.
const MaxChecks = 32

// Validate returns an [ErrInvalid] naming all that is wrong with a registration that
// has its defaults.
func (r Registration) Validate() error {
	errs := []error{r.Instance().Validate()}
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
	if size := len(r.Instance().Encode()); size > MaxRecord {
		errs = append(errs, Errorf(ErrInvalid, "the instance has %d bytes; at most %d are allowed", size, MaxRecord))
	}
	return errors.Join(errs...)
}
