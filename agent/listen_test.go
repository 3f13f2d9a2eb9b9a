package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"disc/config"
)

// client returns a client certificate that authority signs.
func client(t *testing.T, authority config.TLS, name string) tls.Certificate {
	t.Helper()
	ca, err := authority.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestClientCertificatesAreVerified expects the listener to verify certificates by the file as
// it is now, also after the authority was replaced.
func TestClientCertificatesAreVerified(t *testing.T) {
	dir := t.TempDir()
	server, first, second := filesIn(dir, "server"), filesIn(dir, "first"), filesIn(dir, "second")
	for _, files := range []config.TLS{server, first, second} {
		pair(t, files, filepath.Base(files.Cert), time.Hour)
	}
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, read(t, first.Cert))
	listeners, err := listen(t.Context(), config.HTTP{Listen: "127.0.0.1:0", TLS: server, ClientCA: ca}, false, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	l := listeners[0]
	defer l.Close()
	// name returns the name that the listener has verified.
	name := func(certificates ...tls.Certificate) (string, error) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certificates) == 0 {
					return new(tls.Certificate), nil
				}
				return &certificates[0], nil
			}})
			if err == nil {
				_, _ = io.Copy(io.Discard, conn) // until the listener closes it
				conn.Close()
			}
		}()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { conn.Close(); <-done }()
		secure := conn.(*tls.Conn)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			return "", err
		}
		if chains := secure.ConnectionState().VerifiedChains; len(chains) > 0 {
			return chains[0][0].Subject.CommonName, nil
		}
		return "", nil
	}
	old, fresh := client(t, first, "old"), client(t, second, "fresh")
	for _, c := range []struct {
		when         string
		ca           []byte
		certificates []tls.Certificate
		want         string
		ok           bool
	}{
		{"known", read(t, first.Cert), []tls.Certificate{old}, "old", true},
		{"unknown", read(t, first.Cert), []tls.Certificate{fresh}, "", false},
		{"none", read(t, first.Cert), nil, "", true},
		{"both authorities", append(read(t, first.Cert), read(t, second.Cert)...), []tls.Certificate{fresh}, "fresh", true},
		{"replaced", read(t, second.Cert), []tls.Certificate{old}, "", false},
		{"unreadable", []byte("none"), []tls.Certificate{fresh}, "fresh", true},
	} {
		t.Run(c.when, func(t *testing.T) {
			write(t, ca, c.ca)
			if got, err := name(c.certificates...); got != c.want || (err == nil) != c.ok {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	if _, err := listen(t.Context(), config.HTTP{Listen: "127.0.0.1:0", TLS: server, ClientCA: filepath.Join(dir, "none")}, false, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "read http.tls.client_ca "+dir) {
		t.Errorf("without the file: %v", err)
	}
}
