package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// placeholder matches ${NAME}, which expand replaces.
var placeholder = regexp.MustCompile(`\$\{\w+\}`)

// expand FILE... replaces each ${NAME} in files by the script's variable.
func expandCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := placeholder.ReplaceAllStringFunc(ts.ReadFile(file), func(name string) string {
			return ts.Getenv(strings.Trim(name, "${}"))
		})
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o644))
	}
}

// shipped FILE [OLD NEW]... copies a file of the folder deploy, and replaces each OLD, which the
// file must have, by NEW. It replaces the addresses of the agent by those of the script's agent
// "one", if there is one.
func shippedCommand(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(filepath.Join("..", "deploy", args[0]))
	ts.Check(err)
	text := string(b)
	for pairs := args[1:]; len(pairs) > 1; pairs = pairs[2:] {
		if !strings.Contains(text, pairs[0]) {
			ts.Fatalf("deploy/%s does not have %q", args[0], pairs[0])
		}
		text = strings.ReplaceAll(text, pairs[0], pairs[1])
	}
	if url := ts.Getenv("one"); url != "" {
		text = strings.NewReplacer(
			"127.0.0.1:3472", strings.TrimPrefix(url, "http://"),
			"127.0.0.1:3453", "127.0.0.1:"+ts.Getenv("one_dns"),
			"127.0.0.1#3453", "127.0.0.1#"+ts.Getenv("one_dns"),
		).Replace(text)
	}
	ts.Check(os.WriteFile(ts.MkAbs(filepath.Base(args[0])), []byte(text), 0o644))
}

// certificate CERT KEY writes a self-signed certificate for localhost and 127.0.0.1, and its key.
func certificateCommand(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	now := time.Now()
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
