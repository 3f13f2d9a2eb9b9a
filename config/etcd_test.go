package config_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"disc/config"
)

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	password, empty := filepath.Join(dir, "password"), filepath.Join(dir, "empty")
	write(t, password, "p: w \r\n")
	write(t, empty, "\n")
	for _, tt := range []struct {
		name                    string
		etcd                    config.Etcd
		user, password, problem string
	}{
		{name: "no user", etcd: config.Etcd{}},
		{name: "password", etcd: config.Etcd{User: "root", Password: "a:b"}, user: "root", password: "a:b"},
		{name: "password file", etcd: config.Etcd{User: "root", PasswordFile: password}, user: "root", password: "p: w "},
		{name: "empty password file", etcd: config.Etcd{User: "root", PasswordFile: empty},
			problem: "read the password of etcd user root: " + empty + " is empty"},
		{name: "missing password file", etcd: config.Etcd{User: "root", PasswordFile: dir + "/none"},
			problem: "read the password of etcd user root: open " + dir + "/none: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			user, password, err := tt.etcd.Credentials(t.Context())
			if user != tt.user || password != tt.password || fmt.Sprint(err) != cmp.Or(tt.problem, "<nil>") {
				t.Errorf("got %q, %q, %v; want %q, %q, %s", user, password, err, tt.user, tt.password, tt.problem)
			}
		})
	}
}

func TestUserWithPassword(t *testing.T) {
	c, err := config.Load(t.Context(), flags(t, "--config", "", "--user", "root:a:b"), host(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if user, password, err := c.Etcd.Credentials(t.Context()); user != "root" || password != "a:b" || err != nil {
		t.Errorf("got %q, %q, %v", user, password, err)
	}
}

func TestPasswordIsNeverPrinted(t *testing.T) {
	c := load(t, "etcd: {user: \"root:hunter2\"}\n", nil)
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %s %v", *c, *c, *c, encoded, c.Settings())
	if strings.Contains(printed, "hunter2") {
		t.Error(printed)
	}
}

func TestUsesTLS(t *testing.T) {
	for _, tt := range []struct {
		name string
		etcd config.Etcd
		want bool
	}{
		{"no scheme", config.Etcd{Endpoints: []string{"a:1"}}, false},
		{"http", config.Etcd{Endpoints: []string{"http://a:1"}}, false},
		{"unix", config.Etcd{Endpoints: []string{"unix:///etcd"}}, false},
		{"https", config.Etcd{Endpoints: []string{"https://a:1"}}, true},
		{"unixs", config.Etcd{Endpoints: []string{"unixs:///etcd"}}, true},
		{"CA", config.Etcd{Endpoints: []string{"a:1"}, CACert: "ca"}, true},
		{"client certificate", config.Etcd{Endpoints: []string{"a:1"}, Cert: "c", Key: "k"}, true},
		{"server name", config.Etcd{Endpoints: []string{"a:1"}, ServerName: "etcd"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.etcd.UsesTLS(); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	e := config.Etcd{CACert: dir + "/ca.pem", Cert: dir + "/cert.pem", Key: dir + "/key.pem", ServerName: "etcd.test"}
	server := selfSigned(t, "etcd.test")
	write(t, e.CACert, certPEM(server))
	writePair(t, e, selfSigned(t, "client"))
	c, err := e.TLSConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := handshake(t, server, c); got != "client" {
		t.Errorf("the client was %q", got)
	}
}

func TestBadTLSFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/ca.pem", "no certificate")
	for _, tt := range []struct {
		name string
		etcd config.Etcd
		want string
	}{
		{"missing CA file", config.Etcd{CACert: "/nowhere/ca.pem"},
			"read etcd's CA certificates: open /nowhere/ca.pem: no such file or directory"},
		{"CA file without a certificate", config.Etcd{CACert: dir + "/ca.pem"},
			"read etcd's CA certificates: " + dir + "/ca.pem contains no certificate in PEM form"},
		{"missing client certificate", config.Etcd{Cert: "/nowhere/c", Key: "/nowhere/k"},
			"read the client certificate /nowhere/c with the key /nowhere/k: open /nowhere/c: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.etcd.TLSConfig(t.Context()); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// handshake returns the name in the client certificate that the server receives.
func handshake(t *testing.T, server tls.Certificate, client *tls.Config) string {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Client(near, client).Handshake() }()
	conn := tls.Server(far, &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, // nothing reads from the pipe after the handshake
	})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func certPEM(c tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
}

func writePair(t *testing.T, e config.Etcd, c tls.Certificate) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, e.Cert, certPEM(c))
	write(t, e.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}
