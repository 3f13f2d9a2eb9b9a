package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"disc/config/input"
	"disc/discovery"
)

// newTLSConfig returns how a check connects to a host over TLS. A restricted check does not send
// its server_name: a proxy could take it for the name of another host to connect to. The
// certificate must have that name all the same.
func newTLSConfig(spec discovery.CheckSpec, host string, via network) *tls.Config {
	c := &tls.Config{RootCAs: via.roots, MinVersion: tls.VersionTLS12, InsecureSkipVerify: spec.SkipVerify}
	verified := host
	if spec.ServerName != "" {
		verified = spec.ServerName
	}
	if !via.restricted {
		c.ServerName = spec.ServerName
	}
	if spec.SkipVerify || spec.CA == "" && (spec.ServerName == "" || !via.restricted) {
		return c
	}
	c.InsecureSkipVerify = true // VerifyConnection verifies instead
	c.VerifyConnection = func(s tls.ConnectionState) error {
		roots, err := readRoots(spec, via.roots)
		if err != nil {
			return err
		}
		return verify(s.PeerCertificates, roots, verified)
	}
	return c
}

// verify checks that a chain of certificates leads to one of roots and is for a host.
func verify(chain []*x509.Certificate, roots *x509.CertPool, host string) error {
	o := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return fmt.Errorf("tls: failed to verify certificate: %w", err)
	}
	return nil
}

// readRoots returns the CAs of a check, by default other ones. It reads a file anew each time, so
// that a renewed one needs no restart.
func readRoots(spec discovery.CheckSpec, other *x509.CertPool) (*x509.CertPool, error) {
	if spec.CA == "" {
		return other, nil
	}
	text, from := []byte(spec.CA), "ca"
	if file := spec.CAFile(); file != "" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(spec.Timeout))
		defer cancel()
		var err error
		if text, err = input.ReadFile(ctx, file, input.MaxPEM); err != nil {
			return nil, fmt.Errorf("read the check's CA certificates: %w", err)
		}
		from = file
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, discovery.Errorf(discovery.ErrInvalid, "%s contains no certificate in PEM form", from)
	}
	return pool, nil
}
