package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/connect"
)

// callError is the error of a call that etcd did not answer, or not as etcd does. Its text
// is for an operator; errors.Is, errors.As and gRPC's code are those of the call.
type callError struct {
	text        string
	unavailable bool // there is no answer of etcd
	err         error
}

func (e *callError) Error() string { return e.text }
func (e *callError) Unwrap() error { return e.err }

// explain returns an error of a call with its cause: that of the failed connections, if
// etcd gave no answer. It returns answers of etcd, and the end of the caller's context, as
// they are.
func (c *connections) explain(err error) error {
	if err == nil || errors.As(err, new(*callError)) || errors.As(err, new(*denied)) {
		return err
	}
	code, cause := unwrap(err)
	if errors.As(cause, new(rpctypes.EtcdError)) {
		return err
	}
	message := status.Convert(err).Message()
	switch {
	case errors.Is(err, context.DeadlineExceeded), code == codes.DeadlineExceeded:
		return &callError{c.noAnswer(), true, err}
	case code == codes.Unavailable:
		return &callError{c.noConnection(message), true, err}
	case isForeign(code, message):
		return &callError{fmt.Sprintf("%s: what answers there is not etcd (%s); %s", c.name(), message, hint(connect.OtherProtocol)), true, err}
	case code == codes.PermissionDenied, code == codes.Unauthenticated: // of tokenAuth, which names etcd
		return &callError{message, false, err}
	case code == codes.Unimplemented, code == codes.Internal, code == codes.ResourceExhausted, code == codes.Unknown && isStatus(err):
		return &callError{c.name() + ": " + message, false, err}
	}
	return err
}

// isForeign reports whether an error is of a server that is not etcd: one of HTTP, or one of
// gRPC without etcd's services.
func isForeign(code codes.Code, message string) bool {
	return strings.HasPrefix(message, "unexpected HTTP status code received from server") ||
		code == codes.Unimplemented && strings.HasPrefix(message, "unknown service ")
}

// isStatus reports whether an error came from gRPC.
func isStatus(err error) bool {
	_, ok := status.FromError(err)
	return ok
}

// unary gives the error of a call its cause.
func (c *connections) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return c.explain(invoke(ctx, method, req, reply, conn, opts...))
}

// stream gives the errors of a stream their cause.
func (c *connections) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, conn, method, opts...)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return nil, &callError{c.noAnswer(), true, context.DeadlineExceeded}
	case err != nil:
		return nil, c.explain(err)
	}
	return explainedStream{s, c}, nil
}

type explainedStream struct {
	grpc.ClientStream
	connections *connections
}

// RecvMsg implements grpc.ClientStream.
func (s explainedStream) RecvMsg(m any) error {
	return s.connections.explain(s.ClientStream.RecvMsg(m))
}

// explainedKV gives errors their cause once more: clientv3 replaces that of a call whose
// context has ended.
type explainedKV struct {
	clientv3.KV
	connections *connections
}

// NewKV returns the calls on keys over a connection that a client of [Dial] has dialed.
func NewKV(conn *grpc.ClientConn, client *clientv3.Client) clientv3.KV {
	kv := clientv3.NewKVFromKVClient(pb.NewKVClient(conn), client)
	if c := connectionsOf(client); c != nil {
		return explainedKV{kv, c}
	}
	return kv
}

func (k explainedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	r, err := k.KV.Get(ctx, key, opts...)
	return r, k.connections.explain(err)
}

func (k explainedKV) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	r, err := k.KV.GetStream(ctx, key, opts...)
	return r, k.connections.explain(err)
}

func (k explainedKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	r, err := k.KV.Put(ctx, key, value, opts...)
	return r, k.connections.explain(err)
}

func (k explainedKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	r, err := k.KV.Delete(ctx, key, opts...)
	return r, k.connections.explain(err)
}

func (k explainedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	r, err := k.KV.Do(ctx, op)
	return r, k.connections.explain(err)
}

func (k explainedKV) Txn(ctx context.Context) clientv3.Txn {
	return explainedTxn{k.KV.Txn(ctx), k.connections}
}

type explainedTxn struct {
	clientv3.Txn
	connections *connections
}

func (t explainedTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	return explainedTxn{t.Txn.If(cs...), t.connections}
}

func (t explainedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	return explainedTxn{t.Txn.Then(ops...), t.connections}
}

func (t explainedTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	return explainedTxn{t.Txn.Else(ops...), t.connections}
}

func (t explainedTxn) Commit() (*clientv3.TxnResponse, error) {
	r, err := t.Txn.Commit()
	return r, t.connections.explain(err)
}

// explainedLease gives errors their cause, as explainedKV does.
type explainedLease struct {
	clientv3.Lease
	connections *connections
}

func (l explainedLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	r, err := l.Lease.Grant(ctx, ttl)
	return r, l.connections.explain(err)
}

func (l explainedLease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	r, err := l.Lease.Revoke(ctx, id)
	return r, l.connections.explain(err)
}

func (l explainedLease) TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	r, err := l.Lease.TimeToLive(ctx, id, opts...)
	return r, l.connections.explain(err)
}

func (l explainedLease) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	r, err := l.Lease.KeepAliveOnce(ctx, id)
	return r, l.connections.explain(err)
}
