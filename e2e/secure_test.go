package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/cli"
	"disc/config"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
)

// authority issues certificates into a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", nil)
	return a
}

// issue writes NAME.pem and NAME-key.pem for a common name. The authority signs the
// certificate; its own is self-signed.
func (a *authority) issue(name string, addresses []net.IP) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: addresses,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: a.cert == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write(name+"-key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name string, content []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), content, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// serverTLS returns the TLS settings of a server that has the certificate "server" and requires
// a client certificate.
func (a *authority) serverTLS() transport.TLSInfo {
	return transport.TLSInfo{CertFile: a.path("server.pem"), KeyFile: a.path("server-key.pem"), TrustedCAFile: a.path("ca.pem"), ClientCertAuth: true}
}

// program runs disc with its own environment: inside the test's process, which is quick, but as a process
// of its own where it has a command to run, since it then reaps all children of its process.
type program struct {
	env map[string]string
}

func (p program) run(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errors bytes.Buffer
	if slices.Contains(args, "--") {
		command := exec.CommandContext(ctx, "disc", args...)
		command.Env, command.Stdout, command.Stderr = os.Environ(), &out, &errors
		for name, value := range p.env {
			command.Env = append(command.Env, name+"="+value)
		}
		return shellCode(command.Run(), command), out.String(), errors.String()
	}
	code = cli.Main(ctx, args, &cli.IO{In: strings.NewReader(""), Out: &out, Err: &errors, Host: config.Host{Hostname: "n1", EUID: 1,
		Env: func(name string) (string, bool) { v, ok := p.env[name]; return v, ok }}})
	return code, out.String(), errors.String()
}

// agent runs an agent until the test ends.
func (p program) agent(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if code, _, stderr := p.run(ctx, "agent"); code != 0 {
			t.Errorf("the agent ended with %d:\n%s", code, stderr)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// expect repeats a command until it ends with the code and its output contains want.
func (p program) expect(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	var got int
	var stdout, stderr string
	if !await(func() bool {
		got, stdout, stderr = p.run(t.Context(), args...)
		return got == code && strings.Contains(stdout+stderr, want)
	}) {
		t.Fatalf("disc %s ended with %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, want, stdout, stderr)
	}
}

func newProgram(t *testing.T, etcd string) program {
	dir := t.TempDir()
	return program{map[string]string{
		"DISC_CONFIG": filepath.Join(dir, "none.yaml"), "DISC_ENDPOINTS": etcd, "DISC_HTTP": "127.0.0.1:" + freePort(t), "DISC_DNS": "127.0.0.1:0",
		"DISC_DATA_DIR": dir, "DISC_DRAIN_DELAY": "0s", "DISC_SESSION_TTL": "5s",
	}}
}

// ready writes the empty config file, and sets DISC_AGENT to the agent's URL.
func (p program) ready(t *testing.T) program {
	t.Helper()
	if err := os.WriteFile(p.env["DISC_CONFIG"], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.env["DISC_AGENT"] = "http://" + p.env["DISC_HTTP"]
	return p
}

// TestClientCertificates runs etcd, an agent and the CLI over TLS with client certificates.
func TestClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("server", []net.IP{net.IPv4(127, 0, 0, 1)})
	ca.issue("agent", nil)
	etcd := etcdtest.StartWith(t, devetcd.Options{Listen: "127.0.0.1:0", TLS: ca.serverTLS()})
	p := newProgram(t, "https://"+etcd.Endpoint()).ready(t)
	p.env["DISC_CACERT"] = ca.path("ca.pem")
	p.expect(t, 1, "etcd at https://"+etcd.Endpoint(), "set", "db/one", "10.0.0.1:1")
	p.env["DISC_CERT"], p.env["DISC_KEY"] = ca.path("agent.pem"), ca.path("agent-key.pem")
	p.expect(t, 0, "made", "set", "db/one", "10.0.0.1:1")
	p.agent(t)
	p.expect(t, 0, "10.0.0.1:1", "lookup", "db", "-o", "addr")
}

// TestFaultCertificatesReplaced replaces the authority and every certificate, as a fleet does
// when its authority expires. The agent loads the new files by itself.
func TestFaultCertificatesReplaced(t *testing.T) {
	ca, listen := newAuthority(t), etcdtest.Address(t)
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	issue := func() {
		ca.issue("server", []net.IP{net.ParseIP(host)})
		ca.issue("agent", nil)
	}
	issue()
	dir := t.TempDir()
	etcd := etcdtest.StartWith(t, devetcd.Options{Dir: dir, Listen: listen, TLS: ca.serverTLS()})
	p := newProgram(t, "https://"+etcd.Endpoint()).ready(t)
	p.env["DISC_CACERT"], p.env["DISC_CERT"], p.env["DISC_KEY"] = ca.path("ca.pem"), ca.path("agent.pem"), ca.path("agent-key.pem")
	p.expect(t, 0, "made", "set", "db/one", "10.0.0.1:1")
	p.agent(t)
	p.expect(t, 0, "10.0.0.1:1", "lookup", "db", "-o", "addr")
	p.expect(t, 0, "agent.pem is valid until", "status")

	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	ca.cert = nil
	ca.cert, ca.key = ca.issue("ca", nil)
	issue()
	etcdtest.StartWith(t, devetcd.Options{Dir: dir, Listen: listen, TLS: ca.serverTLS()})
	p.expect(t, 0, "made", "set", "db/two", "10.0.0.2:1")
	p.expect(t, 0, "10.0.0.2:1", "lookup", "db", "-o", "addr")
}

// TestUserAndPassword runs against an etcd that requires a user and a password.
func TestUserAndPassword(t *testing.T) {
	etcd := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost = 4 }}) // the least
	root := etcdtest.Client(t, etcd.Endpoint())
	for _, err := range []error{
		errorOf(root.RoleAdd(t.Context(), "root")), errorOf(root.UserAdd(t.Context(), "root", "r00t")),
		errorOf(root.UserGrantRole(t.Context(), "root", "root")), errorOf(root.UserAdd(t.Context(), "disc", "s3cret")),
		errorOf(root.UserGrantRole(t.Context(), "disc", "root")), errorOf(root.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := newProgram(t, etcd.Endpoint()).ready(t)
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.expect(t, 1, "--user", "set", "db/one", "10.0.0.1:1")
	p.env["DISC_USER"], p.env["DISC_PASSWORD_FILE"] = "disc", file
	write("wr0ng")
	p.expect(t, 1, `"disc"`, "set", "db/one", "10.0.0.1:1")
	if _, stdout, stderr := p.run(t.Context(), "set", "db/one", "10.0.0.1:1"); strings.Contains(stdout+stderr, "wr0ng") {
		t.Errorf("the password is printed:\n%s%s", stdout, stderr)
	}
	p.agent(t) // keeps trying, and reports why it has no view
	p.expect(t, 1, `"disc"`, "lookup", "db")
	write("s3cret")
	p.expect(t, 0, "made", "set", "db/one", "10.0.0.1:1")
	p.expect(t, 0, "10.0.0.1:1", "lookup", "db", "-o", "addr")
	if _, stdout, _ := p.run(t.Context(), "config", "view"); strings.Contains(stdout, "s3cret") {
		t.Errorf("the password is shown:\n%s", stdout)
	}
}

func errorOf[T any](_ T, err error) error { return err }
