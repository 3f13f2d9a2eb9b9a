package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"disc/discovery"
)

// privateServers starts an HTTPS and a gRPC server with a certificate. It returns their addresses.
// name gets the name that a client sends.
func privateServers(t *testing.T, pair tls.Certificate) (https, rpc string, name func() string) {
	t.Helper()
	sent := make(chan string, 100)
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			sent <- hello.ServerName
			return nil, nil
		},
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = config
	s.StartTLS()
	t.Cleanup(s.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	healthpb.RegisterHealthServer(g, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return s.URL, l.Addr().String(), func() string { return <-sent }
}

// issue makes an authority, and a certificate of it for a name. It returns the authority's
// certificate in PEM form.
func issue(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sign := func(about, by *x509.Certificate, public any, key any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, about, by, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER := sign(ca, ca, &caKey.PublicKey, caKey)
	leafDER := sign(leaf, ca, &key.PublicKey, caKey)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, string(text)
}

// TestPrivateAuthority covers https and grpc checks of servers whose certificate is of a private
// authority and for another name than the address that is asked.
func TestPrivateAuthority(t *testing.T) {
	pair, ca := issue(t, "web.internal")
	_, otherCA := issue(t, "other")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	type verification struct {
		ca, name string
		skip     bool
	}
	for _, tt := range []struct {
		about      string
		v          verification
		restricted bool
		want       discovery.Status
		says, sent string
	}{
		{"nothing is said", verification{}, false, discovery.Critical, "x509", ""},
		{"the authority alone", verification{ca: file}, false, discovery.Critical, "127.0.0.1", ""},
		{"file and name", verification{ca: file, name: "web.internal"}, false, discovery.Passing, "", "web.internal"},
		{"text and name", verification{ca: ca, name: "web.internal"}, false, discovery.Passing, "", "web.internal"},
		{"another authority", verification{ca: otherCA, name: "web.internal"}, false, discovery.Critical, "unknown authority", "web.internal"},
		{"another name", verification{ca: ca, name: "db.internal"}, false, discovery.Critical, "db.internal", "db.internal"},
		{"no such file", verification{ca: file + "x", name: "web.internal"}, false, discovery.Critical, "ca.pemx: no such file", "web.internal"},
		{"not verified", verification{skip: true}, false, discovery.Passing, "", ""},
		{"from the API: text and name", verification{ca: ca, name: "web.internal"}, true, discovery.Passing, "", ""},
		{"from the API: another name", verification{ca: ca, name: "db.internal"}, true, discovery.Critical, "db.internal", ""},
		{"from the API: a name of the system's authorities", verification{name: "web.internal"}, true, discovery.Critical, "unknown authority", ""},
		{"from the API: not verified", verification{skip: true}, true, discovery.Passing, "", ""},
	} {
		for _, kind := range []discovery.CheckType{discovery.CheckHTTP, discovery.CheckGRPC} {
			t.Run(tt.about+" "+string(kind), func(t *testing.T) {
				https, rpc, name := privateServers(t, pair) // of its own: gRPC may connect once more after a failure
				spec := discovery.CheckSpec{Type: discovery.CheckHTTP, URL: https}
				if kind == discovery.CheckGRPC {
					spec = discovery.CheckSpec{Type: kind, Address: rpc, TLS: true}
				}
				spec.CA, spec.ServerName, spec.SkipVerify = tt.v.ca, tt.v.name, tt.v.skip
				spec.Interval, spec.Timeout = minute, minute
				r := discovery.Registration{Service: "web", ID: "web-1", Port: 1, Checks: []discovery.CheckSpec{spec}}.WithDefaults("127.0.0.1", "")
				if err := r.Validate(); err != nil {
					t.Fatal(err)
				}
				set, err := newScheduler(t, Options{}).NewSet(r, SetOptions{Restricted: tt.restricted})
				if err != nil {
					t.Fatal(err)
				}
				got := probeSet(t, set)
				if got.status != tt.want || !strings.Contains(got.output, tt.says) {
					t.Errorf("got %+v, want %s, %q", got, tt.want, tt.says)
				}
				if sent := name(); sent != tt.sent {
					t.Errorf("sent the name %q, want %q", sent, tt.sent)
				}
			})
		}
	}
}

// TestRestrictedVerification covers what a check from the API may not ask of TLS.
func TestRestrictedVerification(t *testing.T) {
	for _, tt := range []struct {
		spec discovery.CheckSpec
		says string
	}{
		{discovery.CheckSpec{CA: "/etc/shadow"}, "is a file, which a check from the API may not name"},
		{discovery.CheckSpec{ServerName: "web.internal", SkipVerify: true}, "has no effect with skip_verify"},
	} {
		t.Run(tt.says, func(t *testing.T) {
			tt.spec.Type, tt.spec.URL = discovery.CheckHTTP, "https://127.0.0.1:1/"
			r := discovery.Registration{Service: "web", ID: "web-1", Port: 1, Checks: []discovery.CheckSpec{tt.spec}}.WithDefaults("127.0.0.1", "")
			_, err := newScheduler(t, Options{}).NewSet(r, SetOptions{Restricted: true})
			if !errors.Is(err, discovery.ErrForbidden) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
			if set, err := newScheduler(t, Options{}).NewSet(r, SetOptions{Restricted: true, KeepRefused: true}); err != nil || len(set.Refused()) != 1 {
				t.Errorf("a saved one is not refused: %v", err)
			}
		})
	}
}
