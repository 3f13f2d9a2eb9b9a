package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/config"
	"disc/discovery/devetcd/etcdtest"
)

// pair writes a certificate that expires after some time, and its key.
func pair(t *testing.T, files config.TLS, name string, valid time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(valid), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, files.Key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func filesIn(dir, name string) config.TLS {
	return config.TLS{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+"-key.pem")}
}

func TestCertificatesThatEndSoon(t *testing.T) {
	dir := t.TempDir()
	old, fresh, server := filesIn(dir, "old"), filesIn(dir, "new"), filesIn(dir, "server")
	pair(t, old, "old", time.Hour)
	pair(t, fresh, "new", 100*24*time.Hour)
	pair(t, server, "server", 13*24*time.Hour)
	write(t, old.Cert, append(read(t, old.Cert), read(t, fresh.Cert)...))
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	// An expiring CA beside its successor is fine; an expiring certificate of a chain is not.
	c := &config.Config{Etcd: config.Etcd{CACert: old.Cert, Cert: old.Cert}, HTTP: config.HTTP{TLS: server}}
	w := etcdtest.Must(newCertificates(c, metrics, slog.New(slog.NewTextHandler(&log, nil))))
	w.check(t.Context())
	soon := map[string]bool{}
	for _, s := range w.status(t.Context()) {
		soon[s.Setting] = s.Soon
		if warned := strings.Contains(log.String(), "setting="+s.Setting); warned != s.Soon {
			t.Errorf("%s: warned of is %v:\n%s", s.Setting, warned, log.String())
		}
	}
	if len(soon) != 3 || soon["etcd.cacert"] || !soon["etcd.cert"] || !soon["http.tls.cert"] {
		t.Errorf("soon: %v", soon)
	}
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 || len(families[0].Metric) != 3 {
		t.Fatalf("%v, %v", families, err)
	}
	if at := time.Unix(int64(families[0].Metric[2].Gauge.GetValue()), 0); time.Until(at).Round(time.Hour) != 13*24*time.Hour {
		t.Errorf("the server's certificate ends at %v", at)
	}
}

func TestCertificateThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	write(t, path, []byte("no certificate"))
	var log bytes.Buffer
	w := etcdtest.Must(newCertificates(&config.Config{Etcd: config.Etcd{CACert: path}}, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil))))
	w.check(t.Context())
	if !strings.Contains(log.String(), path+": it has no certificate in PEM format") || len(w.status(t.Context())) != 0 {
		t.Errorf("%s%v", log.String(), w.status(t.Context()))
	}
}

// While the server's files are only half replaced, the last good pair is used.
func TestServerCertificateIsReplaced(t *testing.T) {
	files := filesIn(t.TempDir(), "server")
	k := newKeyPair(files, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if _, err := k.load(t.Context()); err == nil || !strings.Contains(err.Error(), "http.tls.cert "+files.Cert) {
		t.Errorf("without files: %v", err)
	}
	name := func() string {
		t.Helper()
		got, err := k.load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	pair(t, files, "first", time.Hour)
	if got := name(); got != "first" {
		t.Error(got)
	}
	first := read(t, files.Key)
	pair(t, files, "second", time.Hour)
	second := read(t, files.Key)
	write(t, files.Key, first)
	if got := name(); got != "first" {
		t.Errorf("with a key that does not fit: %s", got)
	}
	write(t, files.Key, second)
	if got := name(); got != "second" {
		t.Error(got)
	}
}
