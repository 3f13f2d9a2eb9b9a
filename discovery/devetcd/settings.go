package devetcd

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

const (
	name         = "disc"
	portAttempts = 10

	// minOpenFiles is the number of open files that package embed insists on.
	minOpenFiles = 151
)

// checkOpenFiles returns an error if the process may open too few files for an etcd.
func checkOpenFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < minOpenFiles {
		return fmt.Errorf("the process may open %d files and etcd needs at least %d; raise the limit with 'ulimit -n'", limit.Cur, minOpenFiles)
	}
	return nil
}

// listen starts etcd on the address of the options, with its data in dir. It chooses a
// free port itself, since etcd advertises the URL that it is told to listen on, port 0
// included. Another process may take the chosen port before etcd does: then listen
// chooses another one.
func (s *Server) listen(o Options, dir string) error {
	if err := checkOpenFiles(); err != nil {
		return err
	}
	wanted, err := net.ResolveTCPAddr("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address", o.Listen, err)
	}
	if wanted.IP == nil {
		wanted.IP = net.IPv4zero // listens on all addresses of IPv6, too
	}
	for range portAttempts {
		address := *wanted
		if wanted.Port == 0 {
			if address.Port, err = freePort(wanted); err != nil {
				break
			}
		}
		s.embedded, err = embed.StartEtcd(o.settings(address.String(), dir, s.ready))
		if wanted.Port != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return explain(err, o.Listen)
}

// explain says what to do when etcd cannot listen on an address. It returns other errors
// as they are.
func explain(err error, listen string) error {
	var failed *net.OpError
	if !errors.As(err, &failed) || failed.Op != "listen" {
		return err
	}
	advice := "choose another address"
	if errors.Is(err, syscall.EADDRINUSE) {
		advice = "stop what listens there, or " + advice
	}
	return fmt.Errorf("listen on %s: %w; %s", listen, failed.Err, advice)
}

// freePort returns a port of an address that nobody listens on.
func freePort(address *net.TCPAddr) (int, error) {
	l, err := net.ListenTCP("tcp", address)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// settings returns etcd's defaults, changed for the only member of a cluster that nobody
// joins. The member sends its gRPC server to ready once it can serve.
func (o Options) settings(address, dir string, ready chan<- *grpc.Server) *embed.Config {
	client := url.URL{Scheme: "http", Host: address}
	if !o.TLS.Empty() {
		client.Scheme = "https"
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.UnsafeNoFsync = name, dir, o.Dir == ""
	c.TickMs, c.ElectionMs = 10, 100 // it has nobody to wait for
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ClientTLSInfo = o.TLS
	// A member must have a URL for peers, but does not have to listen for them: this
	// leaves neither a port nor a socket file.
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.InitialCluster = c.InitialClusterFromName(name)
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, cmp.Or(o.Retention, time.Hour).String()
	c.EnableGRPCGateway = false                       // it would let any web page write to etcd
	c.CORS = map[string]struct{}{client.String(): {}} // the default lets any web page read
	if host, _, err := net.SplitHostPort(address); err == nil && net.ParseIP(host).IsLoopback() {
		c.HostWhitelist = map[string]struct{}{host: {}, "localhost": {}, "127.0.0.1": {}, "::1": {}} // against DNS rebinding
	}
	// etcd logs nothing. When it cannot go on it panics, instead of ending the program
	// without a word.
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop().WithOptions(zap.WithFatalHook(zapcore.WriteThenPanic)))
	c.ServiceRegister = func(s *grpc.Server) { ready <- s }
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.WaitForHandlers(true)} // before etcd closes what they work on
	if o.Configure != nil {
		o.Configure(c)
	}
	return c
}
