package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"disc/discovery"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// tokens authenticates by user and password. clientv3 can do so too, but only with
// etcd there when the client is made, with the password of that moment, and with a
// new token, which costs etcd a bcrypt and a proposal, for every stream.
type tokens struct {
	credentials func() (user, password string, err error)
	endpoints   []string

	mu    sync.Mutex
	conn  *grpc.ClientConn // learnt from the first call
	token string           // empty: none, or etcd has no authentication
	valid bool
}

// authenticating marks the context of the call that fetches a token, which itself
// needs none.
type authenticating struct{}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t *tokens) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if ctx.Value(authenticating{}) != nil {
		return map[string]string{}, nil
	}
	token, err := t.get(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Passwords over
// plain connections are the operator's choice, as with etcdctl.
func (t *tokens) RequireTransportSecurity() bool { return false }

func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.valid {
		return t.token, nil
	}
	user, password, err := t.credentials()
	if err != nil {
		return "", status.Error(codes.Unauthenticated, err.Error())
	}
	ctx = context.WithValue(ctx, authenticating{}, true)
	r, err := pb.NewAuthClient(t.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password})
	switch err = rpctypes.Error(err); {
	case err == nil:
		t.token, t.valid = r.Token, true
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		t.token, t.valid = "", true
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return "", status.Error(codes.PermissionDenied, fmt.Sprintf("etcd at %s refuses user %q: invalid user name or password",
			strings.Join(t.endpoints, ","), user))
	default:
		return "", err
	}
	return t.token, nil
}

// use learns the connection over which to authenticate.
func (t *tokens) use(conn *grpc.ClientConn) {
	t.mu.Lock()
	t.conn = conn
	t.mu.Unlock()
}

// drop forgets the token if err says that it is no longer good, or that
// authentication was switched on, and reports whether it did.
func (t *tokens) drop(err error) bool {
	err = rpctypes.Error(err)
	if !errors.Is(err, rpctypes.ErrInvalidAuthToken) && !errors.Is(err, rpctypes.ErrUserEmpty) && !errors.Is(err, rpctypes.ErrAuthOldRevision) {
		return false
	}
	t.mu.Lock()
	t.valid = false
	t.mu.Unlock()
	return true
}

// unary repeats a call once with a new token. etcd refuses such calls before it looks
// at them, so nothing is done twice.
func (t *tokens) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	t.use(conn)
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err != nil && t.drop(err) {
		err = invoke(ctx, method, req, reply, conn, opts...)
	}
	return err
}

// stream watches for a refused token; who reads the stream opens it again.
func (t *tokens) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	t.use(conn)
	s, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		t.drop(err)
		return nil, err
	}
	return &tokenStream{s, t}, nil
}

type tokenStream struct {
	grpc.ClientStream
	tokens *tokens
}

func (s *tokenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.tokens.drop(err)
	}
	return err
}

// IsRefused reports whether etcd refuses the user or what the user may do: an error
// that waiting does not mend.
func IsRefused(err error) bool {
	return errors.Is(err, rpctypes.ErrAuthFailed) || errors.Is(err, rpctypes.ErrPermissionDenied) ||
		errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, discovery.ErrForbidden) ||
		status.Code(err) == codes.PermissionDenied
}
