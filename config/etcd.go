package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"disc/config/input"
	"disc/discovery"
)

// Secret is a string that is never printed, logged or encoded.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[secret]" }

// MarshalText hides the secret from JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// LogValue hides the secret from the log.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Etcd holds the settings of the connection to etcd. CACert, Cert and Key are paths of PEM
// files.
type Etcd struct {
	Endpoints    []string // at least one; with or without a scheme, no slash at the end
	CACert       string   // "": the system's CAs
	Cert, Key    string   // the client's; both or neither are set
	ServerName   string   // expected in etcd's certificate; "": the host of the endpoint
	User         string   // "": no authentication by password
	Password     Secret   // "": read it from PasswordFile
	PasswordFile string
	DialTimeout  time.Duration   // at least 1 ms
	Quota        discovery.Bytes // etcd's --quota-backend-bytes, for an etcd before 3.6; 0: not known
}

// UsesTLS reports whether connections to etcd use TLS: by the scheme of the endpoints, or if
// they have none, because a certificate, CA or server name is set.
func (e Etcd) UsesTLS() bool {
	for _, endpoint := range e.Endpoints {
		if scheme, _ := splitScheme(endpoint); scheme != "" {
			return isSecure(scheme)
		}
	}
	return e.CACert != "" || e.Cert != "" || e.ServerName != ""
}

func isSecure(scheme string) bool { return scheme == "https" || scheme == "unixs" }

// TLSConfig reads the certificates and returns the TLS configuration for etcd, for use if
// [Etcd.UsesTLS]. An error names the file at fault.
func (e Etcd) TLSConfig(ctx context.Context) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.ServerName}
	if err := trustCAs(ctx, c, e.CACert); err != nil {
		return nil, fmt.Errorf("read etcd's CA certificates: %w", err)
	}
	if e.Cert != "" {
		if err := useCertificate(ctx, c, TLS{e.Cert, e.Key}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// useCertificate makes c send a client certificate.
func useCertificate(ctx context.Context, c *tls.Config, files TLS) error {
	pair, err := files.Load(ctx)
	if err != nil {
		return fmt.Errorf("read the client certificate %s with the key %s: %w", files.Cert, files.Key, err)
	}
	// With Certificates instead, Go sends none if the server's list of CAs omits an
	// intermediate one.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return nil
}

// TLSSource returns [Etcd.TLSConfig] if connections to etcd use TLS, otherwise nil.
func (e Etcd) TLSSource() func(context.Context) (*tls.Config, error) {
	if !e.UsesTLS() {
		return nil
	}
	return e.TLSConfig
}

// trustCAs makes c trust only the CA certificates of a PEM file; with "" the system's.
func trustCAs(ctx context.Context, c *tls.Config, file string) error {
	if file == "" {
		return nil
	}
	pool, err := readCAs(ctx, file)
	c.RootCAs = pool
	return err
}

// readCAs reads the CA certificates of a PEM file.
func readCAs(ctx context.Context, file string) (*x509.CertPool, error) {
	pem, err := input.ReadFile(ctx, file, input.MaxPEM)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, invalid("%s contains no certificate in PEM form", file)
	}
	return pool, nil
}

// TLSConfig reads the certificates and returns the TLS configuration for an agent whose URL
// is https. An error names the file at fault.
func (c CLI) TLSConfig(ctx context.Context) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := trustCAs(ctx, t, c.CACert); err != nil {
		return nil, fmt.Errorf("read the agent's CA certificates: %w", err)
	}
	if c.Cert != "" {
		if err := useCertificate(ctx, t, TLS{c.Cert, c.Key}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Credentials returns the user and password for etcd; both are "" if no user is set. It
// reads the password file on every call.
func (e Etcd) Credentials(ctx context.Context) (user, password string, err error) {
	if e.User == "" || e.PasswordFile == "" {
		return e.User, string(e.Password), nil
	}
	b, err := input.ReadFile(ctx, e.PasswordFile, input.MaxSecret)
	if err != nil {
		return "", "", fmt.Errorf("read the password of etcd user %s: %w", e.User, err)
	}
	password = strings.TrimRight(string(b), "\r\n")
	if password == "" {
		return "", "", invalid("read the password of etcd user %s: %s is empty", e.User, e.PasswordFile)
	}
	return e.User, password, nil
}

// CredentialSource returns [Etcd.Credentials] if there is a user, otherwise nil.
func (e Etcd) CredentialSource() func(context.Context) (user, password string, err error) {
	if e.User == "" {
		return nil
	}
	return e.Credentials
}
