package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// CheckType is the way in which a check probes an instance.
type CheckType string

// The types of checks.
const (
	CheckHTTP CheckType = "http" // GET a URL: 2xx passing, 429 warning, else critical
	CheckTCP  CheckType = "tcp"  // connect
	CheckGRPC CheckType = "grpc" // call grpc.health.v1.Health/Check
	CheckExec CheckType = "exec" // run a command: exit code 0 passing, 1 warning, else critical
	CheckTTL  CheckType = "ttl"  // the service itself reports, at least once per TTL
)

// Defaults of checks.
const (
	DefaultCheckInterval = 10 * time.Second
	DefaultCheckTimeout  = 5 * time.Second // or the interval, if that is shorter
	DefaultFailures      = 2               // failure_threshold: failures in a row until critical
	DefaultSuccesses     = 1               // success_threshold: successes in a row until passing
)

// CheckSpec specifies a check of an instance. [CheckSpec.WithDefaults] fills in absent
// fields. A field that names a type applies to checks of that type alone.
type CheckSpec struct {
	ID               string            `json:"id,omitempty" yaml:"id"`
	Name             string            `json:"name,omitempty" yaml:"name"`
	Type             CheckType         `json:"type" yaml:"type"`
	URL              string            `json:"url,omitempty" yaml:"url"`                 // http
	Method           string            `json:"method,omitempty" yaml:"method"`           // http; default GET
	Headers          map[string]string `json:"headers,omitempty" yaml:"headers"`         // http
	Address          string            `json:"address,omitempty" yaml:"address"`         // tcp, grpc: host:port; default the instance's
	Service          string            `json:"service,omitempty" yaml:"service"`         // grpc: the service name of the request
	TLS              bool              `json:"tls,omitempty" yaml:"tls"`                 // grpc
	CA               string            `json:"ca,omitempty" yaml:"ca"`                   // https, grpc: see [CheckSpec.CAFile]; default the system's
	ServerName       string            `json:"server_name,omitempty" yaml:"server_name"` // https, grpc: the name in the certificate; default the host that is asked
	SkipVerify       bool              `json:"skip_verify,omitempty" yaml:"skip_verify"` // https, grpc: any certificate will do
	Command          []string          `json:"command,omitempty" yaml:"command"`         // exec
	TTL              Duration          `json:"ttl,omitempty" yaml:"ttl"`                 // ttl
	Interval         Duration          `json:"interval,omitempty" yaml:"interval"`
	Timeout          Duration          `json:"timeout,omitempty" yaml:"timeout"`
	SuccessThreshold int               `json:"success_threshold,omitempty" yaml:"success_threshold"`
	FailureThreshold int               `json:"failure_threshold,omitempty" yaml:"failure_threshold"`
}

// WithDefaults returns the check with its absent fields filled in, except the id, which
// depends on the instance's other checks.
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
	if c.Type == CheckHTTP {
		c.Method = strings.ToUpper(cmp.Or(c.Method, "GET"))
	}
	return c
}

// Validate returns an [ErrInvalid] that names everything wrong with a check that has
// its defaults.
func (c CheckSpec) Validate() error {
	uses, known := checkSettings[c.Type]
	if !known {
		return Errorf(ErrInvalid, "type %q is unknown; use http, tcp, grpc, exec or ttl", string(c.Type))
	}
	errs := []error{c.validateTarget(), c.validateTLS(), validateText("name", c.Name)}
	if c.ID != "" {
		errs = append(errs, validate("check id", c.ID, "-_.:", MaxID))
	}
	if c.Type != CheckTTL {
		errs = append(errs,
			validateDuration("interval", c.Interval),
			validateRange("success_threshold", c.SuccessThreshold, 1, 100),
			validateRange("failure_threshold", c.FailureThreshold, 1, 100))
		if c.Timeout <= 0 || c.Timeout > c.Interval {
			errs = append(errs, Errorf(ErrInvalid, "timeout %v is out of range; it must be above 0 and at most the interval, %v", c.Timeout, c.Interval))
		}
	}
	// A setting without effect is an error: whoever wrote it expects one.
	for _, setting := range c.settings() {
		if !slices.Contains(uses, setting) {
			errs = append(errs, Errorf(ErrInvalid, "%s is not a setting of a %s check", setting, c.Type))
		}
	}
	return errors.Join(errs...)
}

// validateWritten is what a check must be that is registered, beyond [CheckSpec.Validate], which
// also accepts the stored checks of an earlier version. Arguments of a command may have line
// breaks: only the config file gives them.
func (c CheckSpec) validateWritten() error {
	errs := []error{
		validateNoControl("name", c.Name),
		validateNoControl("url", c.URL),
		validateNoControl("address", c.Address),
		validateNoControl("service", c.Service),
	}
	if file := c.CAFile(); file != "" {
		errs = append(errs, validateNoControl("ca", file))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		errs = append(errs, validateNoControl(fmt.Sprintf("header %.40q", name), c.Headers[name]))
	}
	return errors.Join(errs...)
}

// validateTarget validates the settings of the thing that is probed.
func (c CheckSpec) validateTarget() error {
	switch c.Type {
	case CheckHTTP:
		return c.validateHTTP()
	case CheckExec:
		if len(c.Command) == 0 || c.Command[0] == "" {
			return Errorf(ErrInvalid, "command is missing; give a list: [/usr/local/bin/probe, --quick]")
		}
	case CheckTTL:
		return validateDuration("ttl", c.TTL)
	case CheckTCP, CheckGRPC:
		if c.Address != "" {
			return validateHostPort(c.Address)
		}
	}
	return nil
}

func (c CheckSpec) validateHTTP() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		errs = append(errs, Errorf(ErrInvalid, "url %q is not an http or https URL", c.URL))
	}
	if !isToken(c.Method) {
		errs = append(errs, Errorf(ErrInvalid, "method %q is not an HTTP method", c.Method))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if !isToken(name) || strings.ContainsFunc(c.Headers[name], unicode.IsControl) {
			errs = append(errs, Errorf(ErrInvalid, "header %q has a name or a value that HTTP does not allow", name))
		}
	}
	return errors.Join(errs...)
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r >= 0x80 || !isAlphanumeric(byte(r)) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func validateDuration(what string, d Duration) error {
	if d < Duration(100*time.Millisecond) || d > Duration(24*time.Hour) {
		return Errorf(ErrInvalid, "%s %v is missing or out of range; use 100ms to 24h", what, d)
	}
	return nil
}

func validateHostPort(s string) error {
	host, text, err := net.SplitHostPort(s)
	if port, numeric := strconv.ParseUint(text, 10, 16); err != nil || host == "" || numeric != nil || port == 0 {
		return Errorf(ErrInvalid, "address %.60q is not host:port, such as 127.0.0.1:8080 or [::1]:8080", s)
	}
	return nil
}

// checkSettings lists the settings that each type of check has, besides id, name and
// type.
var checkSettings = map[CheckType][]string{
	CheckHTTP: {"url", "method", "headers", "ca", "server_name", "skip_verify", "interval", "timeout", "success_threshold", "failure_threshold"},
	CheckTCP:  {"address", "interval", "timeout", "success_threshold", "failure_threshold"},
	CheckGRPC: {"address", "service", "tls", "ca", "server_name", "skip_verify", "interval", "timeout", "success_threshold", "failure_threshold"},
	CheckExec: {"command", "interval", "timeout", "success_threshold", "failure_threshold"},
	CheckTTL:  {"ttl"},
}

// settings returns the names of the settings that are set.
func (c CheckSpec) settings() []string {
	var set []string
	for _, setting := range []struct {
		name  string
		isSet bool
	}{
		{"url", c.URL != ""},
		{"method", c.Method != ""},
		{"headers", len(c.Headers) > 0},
		{"address", c.Address != ""},
		{"service", c.Service != ""},
		{"tls", c.TLS},
		{"ca", c.CA != ""},
		{"server_name", c.ServerName != ""},
		{"skip_verify", c.SkipVerify},
		{"command", len(c.Command) > 0},
		{"ttl", c.TTL != 0},
		{"interval", c.Interval != 0},
		{"timeout", c.Timeout != 0},
		{"success_threshold", c.SuccessThreshold != 0},
		{"failure_threshold", c.FailureThreshold != 0},
	} {
		if setting.isSet {
			set = append(set, setting.name)
		}
	}
	return set
}
