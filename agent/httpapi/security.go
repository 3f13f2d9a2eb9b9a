package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"disc/agent/api"
)

// checkOrigin refuses requests that a web page may have sent from a browser on this host:
// those for another host name (DNS rebinding), and those from another origin.
func (a *API) checkOrigin(r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !a.hostAllowed(r.Host, local) {
		return api.NewProblem(http.StatusMisdirectedRequest, fmt.Sprintf(
			"this agent does not answer for host %q; ask for localhost, or add the name to http.allow_hosts", r.Host))
	}
	if isCrossOrigin(r) || a.crossOrigin.Check(r) != nil {
		return api.NewProblem(http.StatusForbidden, "cross-origin requests are refused: ask from the agent's own page, or from outside of a browser")
	}
	return nil
}

// hostAllowed reports whether a Host header names this agent. local is the address at
// which the request came in. Requests of HTTP/1.0 may have none (RFC 9112, section 3.2); those of
// browsers have one. Over the Unix socket, for which programs make up a host, each is allowed but a
// domain: a reader may have forwarded a port to the socket, and a web page whose domain leads to
// that port would be of the same origin as the agent's (DNS rebinding).
func (a *API) hostAllowed(host string, local net.Addr) bool {
	name := strings.TrimSuffix(hostname(host), ".")
	if host == "" || name == "127.0.0.1" || name == "localhost" {
		return true
	}
	if local != nil && local.Network() == "unix" && !isDomain(name) {
		return true
	}
	if a.hosts[strings.ToLower(name)] || strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	at, ok := local.(*net.TCPAddr)
	return ok && at.AddrPort().Addr().Unmap() == ip.Unmap()
}

// isDomain reports whether a name may be that of a public site: it has a dot, no character that
// browsers leave out of names, and is no address.
func isDomain(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	return strings.Contains(name, ".") && !strings.ContainsAny(name, "/%\\")
}

// hostname returns a host without its port and brackets.
func hostname(hostport string) string {
	if rest, ok := strings.CutPrefix(hostport, "["); ok {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && strings.IndexByte(hostport, ':') == i {
		return hostport[:i]
	}
	return hostport
}

// isCrossOrigin reports whether a page of another origin sent the request. Unlike
// http.CrossOriginProtection it also covers requests that only read. It lets a link to
// the agent pass.
func isCrossOrigin(r *http.Request) bool {
	if origin, ok := r.Header["Origin"]; ok {
		if u, err := url.Parse(origin[0]); err != nil || u.Host == "" || u.Host != r.Host || len(origin) > 1 {
			return true
		}
	}
	if site, ok := r.Header["Sec-Fetch-Site"]; ok {
		same := site[0] == "same-origin" || site[0] == "none"
		return !same && r.Header.Get("Sec-Fetch-Mode") != "navigate"
	}
	return false
}
