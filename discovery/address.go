package discovery

import (
	"net/netip"
	"strings"
)

// maxLabel is the greatest length of a label of a host name, in bytes (RFC 1035).
const maxLabel = 63

// CanonicalAddress returns an address in the one form that all protocols show. An IP address
// gets its canonical form (RFC 5952), and an IPv4-mapped IPv6 address (RFC 4291, section
// 2.5.5.2) is the IPv4 address: ::ffff:10.0.0.5 is 10.0.0.5. Anything else is returned as it is,
// and so is ::ffff:0.0.0.0: a record may have it, but none has 0.0.0.0.
func CanonicalAddress(s string) string {
	if strings.IndexByte(s, ':') < 0 {
		return s // an IPv4 address has only one form
	}
	a, err := netip.ParseAddr(s)
	if a = a.Unmap(); err != nil || a.IsUnspecified() {
		return s
	}
	var buffer [len("0000:0000:0000:0000:0000:0000:0000:0000")]byte
	if canonical := a.AppendTo(buffer[:0]); string(canonical) != s {
		return string(canonical)
	}
	return s // without a copy
}

// ValidateAddress returns an [ErrInvalid] unless every host of the fleet can connect to s. It
// is a host name (see [IsHostName]) or the IP address of one host: without a zone (RFC 4007),
// which only one host understands, and neither multicast, broadcast nor of 0.0.0.0/8, which
// means "this host".
func ValidateAddress(s string) error {
	if err := validateStoredAddress(s); err != nil {
		return err
	}
	return validateWrittenAddress(s)
}

// validateStoredAddress is the rule for an address in etcd: that of the first version, so that
// no record of an earlier agent becomes unreadable.
func validateStoredAddress(s string) error {
	if s == "" {
		return Errorf(ErrInvalid, "address is empty; give an IP address or a host name without a port")
	}
	if a, err := netip.ParseAddr(s); err == nil && a.IsUnspecified() {
		return Errorf(ErrInvalid, "address %s is unspecified; give the address that callers connect to", s)
	} else if err == nil && a.Zone() == "" {
		return nil
	}
	if validate("address", s, "-_.", MaxNode) != nil || strings.Contains(s, "..") || allDigits(lastLabel(s)) {
		return Errorf(ErrInvalid, "address %.60q is neither an IP address nor a host name (the port goes into its own field)", s)
	}
	return nil
}

// validateWrittenAddress is what [ValidateAddress] demands beyond [validateStoredAddress].
func validateWrittenAddress(s string) error {
	a, err := netip.ParseAddr(s)
	a = a.Unmap()
	switch {
	case err != nil && endsInNumber(s):
		return Errorf(ErrInvalid, "address %.60q ends in a number, so that programs take it for an IPv4 address; write that one with four decimal numbers, as 127.0.0.1", s)
	case err != nil && !IsHostName(s):
		return Errorf(ErrInvalid, "address %.60q is not a host name; use labels of 1 to %d letters, digits, - and _, with no - at either end", s, maxLabel)
	case err != nil:
		return nil
	case a.IsMulticast():
		return Errorf(ErrInvalid, "address %s is a multicast address; give the address of one host", s)
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return Errorf(ErrInvalid, "address %s is the broadcast address; give the address of one host", s)
	case a.Is4() && a.As4()[0] == 0:
		return Errorf(ErrInvalid, "address %s is of 0.0.0.0/8, which means this host; give the address that callers connect to", s)
	}
	return nil
}

// IsHostName reports whether s is a host name: up to 253 bytes in labels of 1 to 63 letters,
// digits and "-", with no "-" at either end (RFC 1123, section 2.1). "_" is allowed too, since
// names of containers have it, and a dot at the end. The last label is not a number: resolvers
// take such a name for an IPv4 address, as 127.1 or 0x7f000001 (WHATWG URL, section 3.5).
func IsHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > MaxNode || endsInNumber(s) {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	return true
}

func notInLabel(r rune) bool { return r >= 0x80 || !isAlphanumeric(byte(r)) && r != '-' && r != '_' }

// endsInNumber reports whether the last label of a name is a decimal or hexadecimal number.
func endsInNumber(host string) bool {
	last := lastLabel(host)
	if allDigits(last) {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(last), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

func lastLabel(host string) string {
	host = strings.TrimSuffix(host, ".")
	return host[strings.LastIndexByte(host, '.')+1:]
}

func allDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }
