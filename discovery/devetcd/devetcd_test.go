package devetcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServesAndKeepsData(t *testing.T) {
	dir := t.TempDir()
	for n, want := range []int64{0, 1} {
		s, err := devetcd.Start(t.Context(), devetcd.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		client := etcdtest.Client(t, s.Endpoint())
		got, err := client.Get(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != want {
			t.Errorf("start %d: %d keys, want %d", n, got.Count, want)
		}
		if _, err := client.Put(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTemporaryDataGoes(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := devetcd.Start(t.Context(), devetcd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expectNothingIn(t, os.TempDir())
}

func expectNothingIn(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestListens starts an etcd on a port of every kind of host, and compares the address
// that it advertises with the one that it serves.
func TestListens(t *testing.T) {
	for _, listen := range []string{"", "127.0.0.1:0", "localhost:0", "0.0.0.0:0", ":0", etcdtest.Address(t)} {
		t.Run(listen, func(t *testing.T) {
			s, err := devetcd.Start(t.Context(), devetcd.Options{Listen: listen})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			members, err := etcdtest.Client(t, s.Endpoint()).MemberList(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := "http://" + strings.Replace(s.Endpoint(), "[::]", "0.0.0.0", 1)
			if urls := members.Members[0].ClientURLs; len(urls) != 1 || urls[0] != want {
				t.Errorf("it advertises %v, want %s", urls, want)
			}
		})
	}
}

func TestRefusesAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := l.Addr().String()
	for _, test := range []struct{ name, listen, want string }{
		{"in use", busy, "start etcd: listen on " + busy + ": bind: address already in use; stop what listens there, or choose another address"},
		{"not of this host", "192.0.2.1:0", "start etcd: listen on 192.0.2.1:0: bind: cannot assign requested address; choose another address"},
		{"without a port", "127.0.0.1", "start etcd: listen on 127.0.0.1: address 127.0.0.1: missing port in address; choose another address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			_, err := devetcd.Start(t.Context(), devetcd.Options{Listen: test.listen})
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			expectNothingIn(t, os.TempDir())
		})
	}
}

// A web page, of which the browser sends the origin or resolves the name to loopback, reads
// nothing of an etcd on loopback.
func TestRefusesWebPages(t *testing.T) {
	url := "http://" + etcdtest.Start(t).Endpoint() + "/version"
	for _, test := range []struct {
		name, origin, host string
		status             int
	}{
		{"no page", "", "", http.StatusOK},
		{"a page", "http://page.example", "", http.StatusOK}, // without the header that lets it read the answer
		{"a page whose name is bound to loopback", "", "page.example", http.StatusMisdirectedRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Close = true
			r.Header.Set("Origin", test.origin)
			r.Host = test.host
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if allowed := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != test.status || allowed != "" {
				t.Errorf("got %s, for origin %q; want %d, for none", response.Status, allowed, test.status)
			}
		})
	}
}

// TestHTTP asks for what every etcd tells over HTTP on its client address.
func TestHTTP(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		expectHTTP(t, "http://"+etcdtest.Start(t).Endpoint(), nil)
	})
	t.Run("TLS", func(t *testing.T) {
		files, trusted := certificate(t)
		s := etcdtest.StartWith(t, devetcd.Options{Listen: "127.0.0.1:0", TLS: files})
		expectHTTP(t, "https://"+s.Endpoint(), trusted)
		expectWatch(t, "https://"+s.Endpoint(), trusted)
	})
}

func expectHTTP(t *testing.T, url string, trusted *tls.Config) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusted}}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		t.Helper()
		response, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s (%v)\n%s", path, response.Status, err, body)
		}
		return string(body)
	}
	if got := get("/health"); !strings.Contains(got, `"health":"true"`) {
		t.Errorf("/health: %s", got)
	}
	var version struct{ Etcdserver, Etcdcluster string }
	if got := get("/version"); json.Unmarshal([]byte(got), &version) != nil || version.Etcdserver == "" || version.Etcdcluster == "" {
		t.Errorf("/version: %s", got)
	}
	if got := get("/metrics"); !strings.Contains(got, "\netcd_server_has_leader 1\n") {
		t.Errorf("/metrics has no etcd_server_has_leader 1:\n%s", got)
	}
}

// expectWatch puts a key and sees it.
func expectWatch(t *testing.T, endpoint string, trusted *tls.Config) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: trusted})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put, err := client.Put(ctx, "k", "v")
	if err != nil {
		t.Fatal(err)
	}
	if seen := <-client.Watch(ctx, "k", clientv3.WithRev(put.Header.Revision)); len(seen.Events) != 1 {
		t.Errorf("seen: %v (%v)", seen.Events, seen.Err())
	}
}

// certificate returns the files of a certificate for 127.0.0.1, and what trusts it.
func certificate(t *testing.T) (transport.TLSInfo, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := transport.TLSInfo{CertFile: filepath.Join(t.TempDir(), "cert.pem"), KeyFile: filepath.Join(t.TempDir(), "key.pem")}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, content := range map[string][]byte{files.CertFile: cert, files.KeyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return files, &tls.Config{RootCAs: roots}
}

// TestClosesQuickly closes an etcd while clients use it, which takes little longer than
// closing one that nobody uses. It repeats what depends on the order of goroutines.
func TestClosesQuickly(t *testing.T) {
	files, trusted := certificate(t)
	watch := func(t *testing.T, endpoint string) {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: trusted})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		<-client.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	}
	// Watches that begin again at once: some of them while etcd ends those that there are.
	watches := func(t *testing.T, endpoint string) {
		conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(credentials.NewTLS(trusted)))
		if err != nil {
			t.Fatal(err)
		}
		create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}
		var loops, begun sync.WaitGroup
		t.Cleanup(func() {
			conn.Close()
			loops.Wait()
		})
		for range 20 {
			begun.Add(1)
			first := sync.OnceFunc(begun.Done)
			loops.Go(func() {
				for {
					stream, err := pb.NewWatchClient(conn).Watch(t.Context())
					if err != nil {
						return
					}
					for stream.Send(create) == nil {
						if _, err := stream.Recv(); err != nil {
							break
						}
						first()
					}
				}
			})
		}
		begun.Wait()
	}
	for _, test := range []struct {
		name, scheme string
		tls          transport.TLSInfo
		use          func(t *testing.T, endpoint string)
		times        int
		more         time.Duration
	}{
		{"a watch", "http://", transport.TLSInfo{}, watch, 20, time.Second},
		{"a watch over TLS", "https://", files, watch, 1, time.Second},
		{"new watches over TLS", "", files, watches, 1, time.Second},
		{"a connection without a request", "", transport.TLSInfo{}, func(t *testing.T, endpoint string) {
			conn, err := net.Dial("tcp", endpoint)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
		}, 1, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := devetcd.Options{Listen: "127.0.0.1:0", TLS: test.tls}
			most := test.more + 10*closingTime(t, etcdtest.StartWith(t, o))
			for range test.times {
				s := etcdtest.StartWith(t, o)
				test.use(t, test.scheme+s.Endpoint())
				if took := closingTime(t, s); took > most {
					t.Fatalf("took %v, want at most %v", took, most)
				}
				if !etcdtest.IsFree(s.Endpoint()) {
					t.Error("it still listens")
				}
			}
		})
	}
}

// closingTime closes an etcd and returns how long that took.
func closingTime(t *testing.T, s *devetcd.Server) time.Duration {
	t.Helper()
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return time.Since(begun)
}

func TestStoppedByItself(t *testing.T) {
	s := etcdtest.Start(t)
	s.Etcd.HardStop()
	select {
	case err := <-s.Err():
		if err == nil {
			t.Error("no reason is given")
		}
	case <-time.After(time.Minute):
		t.Error("nobody is told that etcd has stopped")
	}
}
