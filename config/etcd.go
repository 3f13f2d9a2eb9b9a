package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// Secret is a text that is never printed, logged or encoded.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[secret]" }

// MarshalText hides the secret from JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// LogValue hides the secret from the log.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Etcd says how etcd is reached. Files are paths of PEM files, except the password's.
type Etcd struct {
	Endpoints    []string // at least one; with or without a scheme, no slash at the end
	CACert       string   // "": the system's certificates
	Cert, Key    string   // of the client; both or neither are set
	ServerName   string   // "": the endpoint's
	User         string   // "": no authentication by password
	Password     Secret   // given with the user; "": in PasswordFile
	PasswordFile string
	DialTimeout  time.Duration // at least 1 ms
}

// UsesTLS reports whether connections to etcd are encrypted: the endpoints say so, or
// they have no scheme and a certificate or server name is given.
func (e Etcd) UsesTLS() bool {
	for _, endpoint := range e.Endpoints {
		if scheme, _ := splitScheme(endpoint); scheme != "" {
			return isSecure(scheme)
		}
	}
	return e.CACert != "" || e.Cert != "" || e.ServerName != ""
}

func isSecure(scheme string) bool { return scheme == "https" || scheme == "unixs" }

// TLSConfig reads the certificates and returns how TLS with etcd is spoken; it is of use
// when [Etcd.UsesTLS]. The error names the file that cannot be used.
func (e Etcd) TLSConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.ServerName}
	if err := trust(c, e.CACert); err != nil {
		return nil, fmt.Errorf("read etcd's CA certificates: %w", err)
	}
	if e.Cert != "" {
		pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate %s with the key %s: %w", e.Cert, e.Key, err)
		}
		// Not Certificates, of which none is sent when the server's list of authorities
		// leaves an intermediate one out.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c, nil
}

// trust makes the CA certificates of a file those that are trusted, if there is one.
func trust(c *tls.Config, file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return invalid("%s has none in PEM form", file)
	}
	return nil
}

// TLSConfig reads the certificates and returns how TLS is spoken with an agent whose URL is
// https. The error names the file that cannot be used.
func (c CLI) TLSConfig() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := trust(t, c.CACert); err != nil {
		return nil, fmt.Errorf("read the agent's CA certificates: %w", err)
	}
	return t, nil
}

// Credentials returns etcd's user and password, which it reads from the file each time;
// all are "" when there is no user.
func (e Etcd) Credentials() (user, password string, err error) {
	if e.User == "" || e.PasswordFile == "" {
		return e.User, string(e.Password), nil
	}
	b, err := os.ReadFile(e.PasswordFile)
	if err != nil {
		return "", "", fmt.Errorf("read the password of etcd user %s: %w", e.User, err)
	}
	password = strings.TrimRight(string(b), "\r\n")
	if password == "" {
		return "", "", invalid("read the password of etcd user %s: %s is empty", e.User, e.PasswordFile)
	}
	return e.User, password, nil
}
