package attack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/reaper"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// fill writes a service of many instances to etcd, whose list is long, and one of a few.
func fill(t *testing.T, endpoint string) {
	t.Helper()
	client, keys := etcdtest.Client(t, endpoint), discovery.NewKeys("default")
	var ops []clientv3.Op
	for n := range 2010 {
		i := discovery.Instance{
			Service: "web", ID: fmt.Sprintf("web-%d", n), Node: fmt.Sprintf("host-%d", n), Address: fmt.Sprintf("10.0.%d.%d", n>>8, n&255), Port: 8080,
			Zone: "eu-west-1a", Weight: 1, Tags: []string{"v2"}, Meta: map[string]string{"Team": "core"}, Status: discovery.Passing, Slots: 1,
		}
		if n >= 2000 {
			i.Service = "few"
		}
		ops = append(ops, clientv3.OpPut(keys.Instance(i.Service, i.ID), string(i.Encode())))
		if len(ops) == 100 || n == 2009 {
			if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
}

// agent is a process of disc that is attacked.
type agent struct {
	http, dns, grpc string // host:port
	socket, log     string // paths
	tls             bool
	command         *exec.Cmd
	ended           chan struct{}
	client          *http.Client
	control         *httptest.Server // in this process, answers at once
}

// startAgent starts an agent with all its listeners, and waits until it has read the catalog.
func startAgent(t *testing.T, etcd string, encrypted bool) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "attack-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &agent{socket: filepath.Join(dir, "s"), log: filepath.Join(dir, "log"), tls: encrypted, ended: make(chan struct{})}
	config := fmt.Sprintf("node: attacked\nadvertise: 127.0.0.1\netcd: {endpoints: [%q]}\ndata_dir: %s\ndrain_delay: 0s\ndns: {listen: '127.0.0.1:0'}\ngrpc: {listen: '127.0.0.1:0'}\nlog: {format: json}\n"+
		"http:\n  listen: 127.0.0.1:0\n  socket: %s\n", etcd, filepath.Join(dir, "data"), a.socket)
	if encrypted {
		config += fmt.Sprintf("  tls: {cert: %s, key: %s}\n", filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
		writeCertificate(t, dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start(t, dir)
	a.client = &http.Client{Timeout: answerTime, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: insecure()}}
	a.control = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if encrypted {
		a.control.StartTLS()
	} else {
		a.control.Start()
	}
	t.Cleanup(a.control.Close)
	retrytest.Eventually(t, "the agent answers", func() bool { return a.readAddresses() && a.ask("/readyz/lookup") == nil })
	return a
}

// start runs the program; in the short form with few open files.
func (a *agent) start(t *testing.T, dir string) {
	t.Helper()
	path := *program
	if path == "" {
		path = os.Args[0]
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(a.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	limit := fmt.Sprintf("ulimit -n %d; ", files)
	if full() {
		limit = ""
	}
	a.command = exec.Command("sh", "-c", limit+`exec "$0" agent --config "$1"`, path, filepath.Join(dir, "config.yaml"))
	a.command.Env = append(os.Environ(), asAgent+"=1", "HOME="+dir, "XDG_STATE_HOME="+dir)
	a.command.Stdout, a.command.Stderr = log, log
	a.command.SysProcAttr = &syscall.SysProcAttr{}
	reaper.DieWithParent(a.command.SysProcAttr)
	if err := a.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.ended)
		_ = a.command.Wait() // survives says that it has ended
	}()
	t.Cleanup(func() {
		_ = a.command.Process.Kill()
		<-a.ended
	})
}

// readAddresses reads the addresses from the log, and reports whether they are there.
func (a *agent) readAddresses() bool {
	log, err := os.ReadFile(a.log)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(log)) {
		var said struct{ Msg, HTTP, DNS, GRPC string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "agent is running" {
			a.http, a.dns, a.grpc = said.HTTP, said.DNS, said.GRPC
			return true
		}
	}
	return false
}

func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	example := httptest.NewTLSServer(nil)
	defer example.Close()
	pair := example.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// insecure returns a configuration that trusts the agent's example certificate.
func insecure(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}

func (a *agent) dialHTTP() (net.Conn, error) {
	if a.tls {
		return tls.DialWithDialer(&net.Dialer{Timeout: answerTime}, "tcp", a.http, insecure("http/1.1"))
	}
	return net.DialTimeout("tcp", a.http, answerTime)
}

func (a *agent) dialHTTP2() (net.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: answerTime}, "tcp", a.http, insecure("h2"))
}

func (a *agent) dialSocket() (net.Conn, error) { return net.DialTimeout("unix", a.socket, answerTime) }
func (a *agent) dialDNS() (net.Conn, error)    { return net.DialTimeout("tcp", a.dns, answerTime) }
func (a *agent) dialGRPC() (net.Conn, error)   { return net.DialTimeout("tcp", a.grpc, answerTime) }

func (a *agent) offersHTTP2(t *testing.T) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", a.http, insecure("h2", "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().NegotiatedProtocol == "h2"
}

// errRefused is why there is no answer when the agent has too much to do.
var errRefused = errors.New("503 with Retry-After")

// ask expects 200 over a new connection to the agent's address. The error is errRefused when the
// agent says to come again later.
func (a *agent) ask(path string) error {
	url := "http://" + a.http + path
	if a.tls {
		url = "https://" + a.http + path
	}
	return a.get(url, path)
}

func (a *agent) get(url, path string) error {
	resp, err := a.client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "" {
			return fmt.Errorf("%s: %w: %s", path, errRefused, b)
		}
		return fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// askDNS expects an answer over UDP, also when some queries are lost in a flood.
func (a *agent) askDNS() error {
	m := new(dns.Msg).SetQuestion("few.disc.", dns.TypeA)
	c := dns.Client{Timeout: answerTime / 10}
	var err error
	for range 10 {
		if _, _, err = c.Exchange(m, a.dns); err == nil {
			return nil
		}
	}
	return err
}

// lastWords returns the beginning of what the process has written about its end.
func (a *agent) lastWords() string {
	b, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	log := string(b)
	for _, begin := range []string{"\npanic: ", "\nfatal error: "} {
		if n := strings.Index(log, begin); n >= 0 {
			log = log[n:]
			return log[:min(len(log), 2<<10)]
		}
	}
	return log[max(0, len(log)-2<<10):]
}

// sampleMemory returns the most anonymous memory that the agent has until ctx ends, in MiB.
func (a *agent) sampleMemory(ctx context.Context) (most float64) {
	for {
		if now, err := a.memory(); err == nil {
			most = max(most, now)
		}
		select {
		case <-ctx.Done():
			return most
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// memory returns the anonymous memory of the agent (proc_pid_status(5)), in MiB.
func (a *agent) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); name == "RssAnon" {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the agent has ended")
}
