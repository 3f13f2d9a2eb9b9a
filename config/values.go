package config

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"disc/discovery"
)

// unlimited is the upper bound of durations that have none.
const unlimited = time.Duration(math.MaxInt64)

// maxSocket is the maximum length of a Unix socket's path in bytes, without the 0 at its end: 107 on
// Linux (unix(7)), 103 on macOS.
const maxSocket = len(syscall.RawSockaddrUnix{}.Path) - 1

func anyText(text string) (string, error) { return text, nil }

// nonEmpty accepts every text but "".
func nonEmpty(text string) (string, error) {
	if text == "" {
		return "", invalid("is empty")
	}
	return text, nil
}

// plainText accepts up to 253 bytes without control characters (see [discovery.IsControl]).
func plainText(text string) (string, error) {
	if len(text) > discovery.MaxNode || strings.ContainsFunc(text, discovery.IsControl) {
		return "", invalid("%.40q is too long or has control characters", text)
	}
	return text, nil
}

// valid accepts the texts that check accepts.
func valid(check func(string) error) func(string) (string, error) {
	return func(text string) (string, error) { return text, check(text) }
}

// visible returns an error unless a text has only visible ASCII characters, as a header of HTTP
// needs it. The error does not repeat the text.
func visible(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return invalid("has a blank, or a character that is not ASCII; give the token alone")
	}
	return nil
}

// oneOf accepts the words, of which there are at least two.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		if slices.Contains(words, T(text)) {
			return T(text), nil
		}
		last := len(words) - 1
		var list []string
		for _, w := range words[:last] {
			list = append(list, string(w))
		}
		return "", invalid("%q is unknown; use %s or %s", text, strings.Join(list, ", "), words[last])
	}
}

// within accepts durations from least to most.
func within(least, most time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return 0, invalid("%q is not a duration; write it as 500ms, 10s or 1h30m", text)
		case d < least && most == unlimited:
			return 0, invalid("%v is out of range; use at least %v", discovery.Duration(d), discovery.Duration(least))
		case d < least || d > most:
			return 0, invalid("%v is out of range; use %v to %v", discovery.Duration(d), discovery.Duration(least), discovery.Duration(most))
		}
		return d, nil
	}
}

// seconds accepts durations of whole seconds, the unit of etcd leases and DNS TTLs.
func seconds(least, most time.Duration) func(string) (time.Duration, error) {
	parse := within(least, most)
	return func(text string) (time.Duration, error) {
		d, err := parse(text)
		if err == nil && d%time.Second != 0 {
			return 0, invalid("%v is not a number of whole seconds", d)
		}
		return d, err
	}
}

func fraction(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, invalid("%q is not a number from 0 to 1", text)
	}
	return v, nil
}

// count accepts whole numbers from 0 to most.
func count[T int | int64](most T) func(string) (T, error) {
	return func(text string) (T, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > int64(most) {
			return 0, invalid("%q is not a whole number from 0 to %d", text, most)
		}
		return T(n), nil
	}
}

// historyBytes parses the bytes of a history: none, or enough for some changes.
func historyBytes(text string) (discovery.Bytes, error) {
	n, err := discovery.ParseBytes(text)
	if err == nil && n != 0 && (n < 64<<10 || n > 1<<30) {
		return 0, invalid("%v is out of range; use 0, or 64KiB to 1GiB", n)
	}
	return n, err
}

func logLevel(texts []string) (l slog.Level, err error) {
	word, err := oneOf("debug", "info", "warn", "error")(texts[0])
	if err == nil {
		err = l.UnmarshalText([]byte(word))
	}
	return l, err
}

func output(text string) (string, error) {
	if body, ok := strings.CutPrefix(text, "template="); ok {
		if body == "" {
			return "", invalid("the template is empty; write template='{{.id}}'")
		}
		return text, nil
	}
	return oneOf("table", "wide", "json", "jsonl", "yaml", "name", "addr", "file_sd", "template=TEMPLATE")(text)
}

// listen accepts "" and host:port; the host may be missing, the port may be 0. It resolves
// no names.
func listen(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", invalid("%q is not host:port; write 127.0.0.1:3472 or [::1]:3472", text)
	}
	if host != "" && !isHost(host) {
		return "", invalid("%q is neither an IP address nor a host name", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", invalid("port %q is not a number from 0 to 65535", port)
	}
	return text, nil
}

// isLoopback reports whether only this host can reach a valid listen address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && discovery.IsLoopback(host)
}

func socket(text string) (string, error) {
	if len(text) > maxSocket {
		return "", invalid("the path has %d bytes; a Unix socket's may have %d", len(text), maxSocket)
	}
	return text, nil
}

func hostName(text string) (string, error) {
	if !isHost(text) {
		return "", invalid("%q is neither an IP address nor a host name (without a port)", text)
	}
	return text, nil
}

// advertised accepts an address at which others reach this host, and returns its canonical
// form.
func advertised(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	return discovery.CanonicalAddress(text), discovery.ValidateAddress(text)
}

// network accepts a network in CIDR notation, or an address, which is a network of one.
func network(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, invalid("%.60q is not a network; write it as 172.17.0.0/16, fd00:1::/64 or 192.0.2.1", text)
	}
	if a := p.Addr(); a.Is4In6() {
		return p, invalid("%s is an IPv4 network in IPv6 form; write it as IPv4, such as 172.17.0.0/16", text)
	}
	if p != p.Masked() {
		return p, invalid("%s has bits beyond the length of the network; write %s", text, p.Masked())
	}
	return p, nil
}

// probeNetwork accepts a network that checks of the HTTP API may be allowed to probe.
func probeNetwork(text string) (netip.Prefix, error) {
	p, err := network(text)
	if err != nil {
		return p, err
	}
	if what := discovery.ForbiddenNetwork(p); what != "" {
		return p, invalid("checks of the HTTP API never probe %s: it is %s; probe it by a check of the config file", text, what)
	}
	return p, nil
}

// domain accepts a DNS name (RFC 1035) and returns it in lower case, with a dot at the end.
func domain(text string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	if strings.HasSuffix(name, ".") || !discovery.IsHostName(name) {
		return "", invalid("%q is not a DNS domain; write it as disc. or sd.example.com", text)
	}
	return name + ".", nil
}

// agentURL accepts the URL of an agent and returns it without a slash at the end: http or
// https with a host, or unix with an absolute path. It accepts host:port for http.
func agentURL(text string) (string, error) {
	if isHostPort(text) {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "@"):
		return "", invalid("the URL contains a user, which an agent does not support")
	case err != nil || u.RawQuery != "" || u.Fragment != "":
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return text, nil
	case (u.Scheme == "http" || u.Scheme == "https") && isHost(u.Hostname()):
		return strings.TrimSuffix(text, "/"), nil
	}
	return "", invalid("%q is not the address of an agent; write host:port, https://host:port or unix:///path", text)
}

// isHostPort reports whether a text is a host, or an IPv6 address in brackets, with a port.
func isHostPort(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || !isHost(host) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || discovery.IsHostName(text)
}

// endpoint accepts an address of etcd and returns it without a slash at the end: host:port,
// http://host:port, https://host:port, unix://path or unixs://path.
func endpoint(text string) (string, error) {
	if strings.Contains(text, "@") {
		return "", invalid("an endpoint contains a user; give it as etcd.user")
	}
	scheme, rest := splitScheme(strings.TrimSuffix(text, "/"))
	switch scheme {
	case "unix", "unixs":
		if rest == "" {
			return "", invalid("%q has no path; write %s:///path", text, scheme)
		}
		return scheme + "://" + rest, nil
	case "", "http", "https":
	default:
		return "", invalid("%q has the unknown scheme %q; use http, https, unix, unixs or none", text, scheme)
	}
	host, port, err := net.SplitHostPort(rest)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || !isHost(host) {
		return "", invalid("%q is not an etcd endpoint; write host:2379, http://host:2379 or https://host:2379", text)
	}
	if scheme == "" {
		return rest, nil
	}
	return fmt.Sprintf("%s://%s", scheme, rest), nil
}

func splitScheme(endpoint string) (scheme, rest string) {
	if scheme, rest, ok := strings.Cut(endpoint, "://"); ok {
		return scheme, rest
	}
	return "", endpoint
}
