package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// tokenAuth authenticates by user and password. clientv3's own authentication needs etcd
// when the client is made, keeps the password of that moment, and fetches a token for each
// stream, which costs etcd a bcrypt and a proposal.
type tokenAuth struct {
	credentials func(context.Context) (user, password string, err error)
	endpoints   []string
	timeout     time.Duration // for fetching a token

	fetching chan struct{}          // size one: the semaphore of the fetching call
	current  atomic.Pointer[string] // nil: to be fetched; empty: etcd's authentication is off
	rejected rejection              // for the fetching call
}

// rejection remembers a user and password that etcd refused. Each attempt costs etcd a bcrypt,
// and a fleet whose password was changed makes attempts for each of its calls.
type rejection struct {
	user, password string
	err            error     // nil: nothing is refused
	until          time.Time // when etcd is asked again
	wait           time.Duration
}

// The time for which a refused password is remembered doubles with each refusal, and is
// shortened by up to a half at random.
const (
	firstRejection = time.Second
	maxRejection   = 16 * time.Second
)

// of returns the error of a user and password that were refused; nil: ask etcd.
func (r *rejection) of(user, password string) error {
	if r.err == nil || user != r.user || password != r.password || !time.Now().Before(r.until) {
		return nil
	}
	return r.err
}

// remember remembers that etcd refused a user and password.
func (r *rejection) remember(user, password string, err error) {
	wait := firstRejection
	if r.err != nil && user == r.user && password == r.password {
		wait = min(2*r.wait, maxRejection)
	}
	*r = rejection{user, password, err, time.Now().Add(wait - rand.N(wait/2)), wait}
}

// connectionKey is the context key of a call's connection. The call authenticates over the
// same connection, since another may hang. A call without one needs no token.
type connectionKey struct{}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t *tokenAuth) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	conn, _ := ctx.Value(connectionKey{}).(*grpc.ClientConn)
	if conn == nil {
		return nil, nil
	}
	token, err := t.get(ctx, conn)
	if err != nil || token == "" {
		return nil, err
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. An operator may choose
// to send passwords over plain connections, as with etcdctl.
func (t *tokenAuth) RequireTransportSecurity() bool { return false }

// get returns the token, and fetches it first if there is none. One caller fetches at a
// time.
func (t *tokenAuth) get(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	if token := t.current.Load(); token != nil {
		return *token, nil
	}
	select {
	case t.fetching <- struct{}{}:
		defer func() { <-t.fetching }()
	case <-ctx.Done():
		return "", status.FromContextError(ctx.Err()).Err()
	}
	if token := t.current.Load(); token != nil {
		return *token, nil
	}
	token, err := t.fetch(ctx, conn)
	if err != nil {
		return "", err
	}
	t.current.Store(&token)
	return token, nil
}

// fetch exchanges user and password for a token. Its errors are gRPC's, with codes that
// gRPC allows here: Unauthenticated if the credentials cannot be read, PermissionDenied if
// etcd refuses the user. A refusal is remembered for some seconds, or until the credentials
// change.
func (t *tokenAuth) fetch(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	user, password, err := t.credentials(ctx)
	if ctx.Err() != nil {
		return "", status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		return "", status.Errorf(codes.Unauthenticated, "user and password for etcd: %v", err)
	}
	if err := t.rejected.of(user, password); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, connectionKey{}, nil), t.timeout)
	defer cancel()
	r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password})
	switch {
	case err == nil:
		t.rejected = rejection{}
		return r.Token, nil
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		return "", nil
	case status.Code(err) == codes.InvalidArgument:
		err = status.Errorf(codes.PermissionDenied, "etcd at %s refuses user %q: %s; check the name and the password",
			strings.Join(t.endpoints, ","), user, strings.TrimPrefix(status.Convert(err).Message(), "etcdserver: "))
		t.rejected.remember(user, password, err)
	}
	return "", err
}

// tokenErrors are etcd's messages for a stale token, and for a missing one after
// authentication was switched on.
var tokenErrors = [...]string{
	rpctypes.ErrInvalidAuthToken.Error(),
	rpctypes.ErrUserEmpty.Error(),
	rpctypes.ErrAuthOldRevision.Error(),
}

// invalidate reports whether a message of etcd refuses the token that a call used, and
// drops that token, so that the next call fetches another.
func (t *tokenAuth) invalidate(message string, used *string) bool {
	for _, refusal := range tokenErrors {
		if strings.Contains(message, refusal) {
			t.current.CompareAndSwap(used, nil) // unless another call already dropped it
			return true
		}
	}
	return false
}

// unary repeats a call once with a new token if etcd refuses the token. etcd checks it
// before it carries out the call, so that no call is carried out twice.
func (t *tokenAuth) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == pb.Auth_Authenticate_FullMethodName {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	ctx, used := context.WithValue(ctx, connectionKey{}, conn), t.current.Load()
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err != nil && t.invalidate(err.Error(), used) {
		err = invoke(ctx, method, req, reply, conn, opts...)
	}
	return err
}

// stream opens a stream that drops a refused token; the reader of the stream opens another.
func (t *tokenAuth) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(context.WithValue(ctx, connectionKey{}, conn), desc, conn, method, opts...)
	if err != nil {
		return nil, err
	}
	return &tokenStream{s, t, t.current.Load()}, nil
}

// tokenStream is a stream that was opened with a token.
type tokenStream struct {
	grpc.ClientStream
	tokens *tokenAuth
	used   *string
}

// RecvMsg drops a refused token. The answers of a watch have the refusal inside.
func (s *tokenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.tokens.invalidate(err.Error(), s.used)
		return err
	}
	if r, ok := m.(*pb.WatchResponse); ok && r.Canceled {
		s.tokens.invalidate(r.CancelReason, s.used)
	}
	return nil
}
