package check

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"disc/discovery"
)

// validateTimeout is how long the validation of a check waits for the advertised name to be
// resolved.
const validateTimeout = 2 * time.Second

// validate checks that the HTTP API may give a check, whose address is filled in. The error is a
// [discovery.ErrForbidden] for an exec check, for an address that the check may not probe, and
// for a request that does more than ask; it is a [discovery.ErrInvalid] for a target that
// cannot be parsed, and a [discovery.ErrUnavailable] while it is not known whether the address is
// this host's. A host name is accepted: what it resolves to is judged at each connection.
func (t *targets) validate(spec discovery.CheckSpec) error {
	ip, err := validateSpec(spec)
	if err != nil || !ip.IsValid() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), validateTimeout)
	defer cancel()
	if err := t.check(ctx, ip); err != nil {
		return fmt.Errorf("check %s: %w", checkName(spec), err)
	}
	return nil
}

// validateSpec makes those checks of validate that nothing but the spec decides. It returns the
// address that is probed, if the spec has it: the settings and the interfaces decide about that.
func validateSpec(spec discovery.CheckSpec) (ip netip.Addr, err error) {
	switch spec.Type {
	case discovery.CheckExec:
		return ip, discovery.Errorf(discovery.ErrForbidden, "check %s: exec checks may come only from the agent's config file; put it there, or use http, tcp, grpc or ttl", checkName(spec))
	case discovery.CheckTTL:
		return ip, nil
	case discovery.CheckHTTP:
		if err := validateRequest(spec); err != nil {
			return ip, err
		}
	}
	if err := validateVerification(spec); err != nil {
		return ip, err
	}
	host, err := splitHost(spec)
	if err != nil {
		return ip, err
	}
	if ip, err = netip.ParseAddr(host); err != nil {
		if !discovery.IsHostName(host) {
			return ip, discovery.Errorf(discovery.ErrInvalid, "check %s: %.60q is neither an IP address nor a host name", checkName(spec), host)
		}
		return netip.Addr{}, nil
	}
	if err := checkForbidden(ip); err != nil {
		return ip, fmt.Errorf("check %s: %w", checkName(spec), err)
	}
	return ip, nil
}

// forbiddenHeaders are the headers that a check from the HTTP API may not send, with the reason.
// Servers in the manner of CGI do not tell "_" from "-" in names, so neither does the check.
var forbiddenHeaders = func() map[string]string {
	reasons := map[string]string{}
	for reason, names := range map[string]string{
		"it names another host than the URL":     "Host Forwarded X-Forwarded-Host X-Host X-Forwarded-Server",
		"it asks for another resource or method": "X-Original-URL X-Rewrite-URL X-HTTP-Method X-HTTP-Method-Override X-Method-Override",
		"metadata services of clouds require it": "Metadata Metadata-Flavor X-Google-Metadata-Request X-AWS-EC2-Metadata-Token X-AWS-EC2-Metadata-Token-TTL-Seconds",
		"it is about the connection":             "Connection Keep-Alive Proxy-Connection Proxy-Authenticate Proxy-Authorization TE Trailer Transfer-Encoding Upgrade HTTP2-Settings Expect",
		"the request of a check has no body":     "Content-Length Content-Encoding",
	} {
		for name := range strings.FieldsSeq(names) {
			reasons[strings.ToLower(name)] = reason
		}
	}
	return reasons
}()

// validateRequest refuses a request that does more than ask the host of its URL.
func validateRequest(spec discovery.CheckSpec) error {
	if m := spec.Method; m != http.MethodGet && m != http.MethodHead {
		return discovery.Errorf(discovery.ErrForbidden, "check %s: method %s is not allowed to a check from the API; use GET or HEAD, or put the check into the agent's config file", checkName(spec), m)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Headers)) {
		if reason, ok := forbiddenHeaders[strings.ReplaceAll(strings.ToLower(name), "_", "-")]; ok {
			return discovery.Errorf(discovery.ErrForbidden, "check %s: header %s is not allowed to a check from the API: %s; put the check into the agent's config file", checkName(spec), name, reason)
		}
	}
	return nil
}

// validateVerification refuses what a check may not ask of TLS. The agent reads a file with its own
// rights, and the output says whether it is there. A server_name is not sent, see [newTLSConfig].
func validateVerification(spec discovery.CheckSpec) error {
	switch {
	case spec.CAFile() != "":
		return discovery.Errorf(discovery.ErrForbidden, "check %s: ca %.60q is a file, which a check from the API may not name; give the certificates themselves, as PEM text, or put the check into the agent's config file", checkName(spec), spec.CA)
	case spec.ServerName != "" && spec.SkipVerify:
		return discovery.Errorf(discovery.ErrForbidden, "check %s: a check from the API verifies server_name and does not send it, so it has no effect with skip_verify; leave one of them out, or put the check into the agent's config file", checkName(spec))
	}
	return nil
}

// checkName returns the name of a check in errors: its id, or its type.
func checkName(spec discovery.CheckSpec) string {
	if spec.ID == "" {
		return string(spec.Type)
	}
	return spec.ID
}

// splitHost returns the host that a check with a URL or an address probes.
func splitHost(spec discovery.CheckSpec) (string, error) {
	if spec.Type == discovery.CheckHTTP {
		u, err := url.Parse(spec.URL)
		if err != nil || u.Hostname() == "" {
			return "", discovery.Errorf(discovery.ErrInvalid, "check %s: the url is not an http or https URL with a host", checkName(spec))
		}
		return u.Hostname(), nil
	}
	host, port, err := net.SplitHostPort(spec.Address)
	number, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || host == "" || number < 1 || number > 65535 {
		return "", discovery.Errorf(discovery.ErrInvalid, "check %s: address %q is not host:port with a port of 1 to 65535", checkName(spec), spec.Address)
	}
	return host, nil
}

// refusedProber is that of a stored check which may never be probed any more.
type refusedProber struct{ reason error }

func (p refusedProber) probe(context.Context) result {
	return result{discovery.Critical, "refused: " + p.reason.Error()}
}
