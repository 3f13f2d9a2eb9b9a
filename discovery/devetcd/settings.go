package devetcd

import (
	"cmp"
	"crypto/tls"
	"math"
	"net"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3compactor"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const name = "disc"

// settings are those of the only member of a cluster that nobody joins, and otherwise
// the defaults of the etcd that is a program. Package embed of etcd would know these, but
// brings what disc does not use, such as the gateway and the export of traces: memory of
// every agent, and time of every command.
func (o Options) settings(address net.Addr, dir string) config.ServerConfig {
	client, peer := url.URL{Scheme: "http", Host: address.String()}, url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	if o.TLS != nil {
		client.Scheme = "https"
	}
	c := config.ServerConfig{
		Name:                name,
		DataDir:             dir,
		UnsafeNoFsync:       o.Dir == "",
		ClientURLs:          []url.URL{client},
		PeerURLs:            []url.URL{peer},
		InitialPeerURLsMap:  map[string]types.URLs{name: {peer}},
		InitialClusterToken: "etcd-cluster",
		NewCluster:          true,
		TickMs:              10,
		ElectionTicks:       10,

		AutoCompactionMode:      v3compactor.ModePeriodic,
		AutoCompactionRetention: cmp.Or(o.Retention, time.Hour),
		SnapshotCount:           etcdserver.DefaultSnapshotCount,
		SnapshotCatchUpEntries:  etcdserver.DefaultSnapshotCatchUpEntries,
		MaxSnapFiles:            5,
		MaxWALFiles:             5,

		MaxTxnOps:                   128,
		MaxRequestBytes:             1.5 * 1024 * 1024,
		MaxConcurrentStreams:        math.MaxUint32,
		WarningApplyDuration:        100 * time.Millisecond,
		WarningUnaryRequestDuration: 300 * time.Millisecond,

		ClientCertAuthEnabled: o.TLS != nil && o.TLS.ClientAuth == tls.RequireAndVerifyClientCert,
		AuthToken:             "simple",
		BcryptCost:            10,
		TokenTTL:              300,

		V2Deprecation:     config.V2DeprDefault,
		ServerFeatureGate: features.NewDefaultServerFeatureGate(name, nil),
		Logger:            zap.NewNop(),
		Metrics:           "basic",
	}
	if o.Configure != nil {
		o.Configure(&c)
	}
	return c
}

// newServer returns the server of etcd's API to clients. It lets them ping as often as
// the etcd that is a program does.
func newServer(etcd *etcdserver.EtcdServer, secure *tls.Config) *grpc.Server {
	return v3rpc.Server(etcd, secure, nil,
		grpc.WaitForHandlers(true), // before etcd closes what they work on
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
}
