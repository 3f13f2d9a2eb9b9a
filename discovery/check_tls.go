package discovery

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// MaxCheckCA is the greatest length of the certificates in a check, in bytes.
const MaxCheckCA = 64 << 10

// beginsPEM begins the certificates in a check that gives them as text.
const beginsPEM = "-----BEGIN "

// CAFile returns the file of CA certificates that a check names; "": it names none, or gives the
// certificates themselves, in PEM form.
func (c CheckSpec) CAFile() string {
	if strings.Contains(c.CA, beginsPEM) {
		return ""
	}
	return c.CA
}

// UsesTLS reports whether a check connects over TLS.
func (c CheckSpec) UsesTLS() bool {
	if c.Type == CheckHTTP {
		u, err := url.Parse(c.URL)
		return err == nil && u.Scheme == "https"
	}
	return c.Type == CheckGRPC && c.TLS
}

// validateTLS validates how a check verifies the server's certificate.
func (c CheckSpec) validateTLS() error {
	if c.CA == "" && c.ServerName == "" && !c.SkipVerify || c.Type != CheckHTTP && c.Type != CheckGRPC {
		return nil
	}
	var errs []error
	switch {
	case !c.UsesTLS() && c.Type == CheckHTTP:
		errs = append(errs, Errorf(ErrInvalid, "ca, server_name and skip_verify have no effect without TLS; use an https url"))
	case !c.UsesTLS():
		errs = append(errs, Errorf(ErrInvalid, "ca, server_name and skip_verify have no effect without TLS; add tls: true"))
	case c.CA != "" && c.SkipVerify:
		errs = append(errs, Errorf(ErrInvalid, "ca has no effect with skip_verify; leave one of them out"))
	}
	switch {
	case len(c.CA) > MaxCheckCA:
		errs = append(errs, Errorf(ErrInvalid, "ca has %d bytes; give at most %d", len(c.CA), MaxCheckCA))
	case c.CA != "" && c.CAFile() == "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CA)):
		errs = append(errs, Errorf(ErrInvalid, "ca has no certificate in PEM form, from -----BEGIN CERTIFICATE----- on"))
	}
	if _, err := netip.ParseAddr(c.ServerName); c.ServerName != "" && err != nil && !IsHostName(c.ServerName) {
		errs = append(errs, Errorf(ErrInvalid, "server_name %.60q is neither a host name nor an IP address", c.ServerName))
	}
	return errors.Join(errs...)
}
