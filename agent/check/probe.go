package check

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"disc/discovery"
)

// result is the result of one run of a check.
type result struct {
	status discovery.Status
	output string
}

// prober runs a check once. probe returns when ctx ends at the latest.
type prober interface {
	probe(ctx context.Context) result
}

// network is how probes connect.
type network struct {
	dialer     *net.Dialer    // refuses what restricted checks may not reach
	roots      *x509.CertPool // CAs for TLS; nil: the system's
	restricted bool           // see [SetOptions.Restricted]
}

// newProber returns the prober of a check whose defaults are filled in, of any type but ttl.
func newProber(spec discovery.CheckSpec, via network) (prober, error) {
	switch spec.Type {
	case discovery.CheckHTTP:
		return newHTTPProber(spec, via)
	case discovery.CheckTCP:
		return &tcpProber{spec.Address, time.Duration(spec.Timeout), via.dialer}, nil
	case discovery.CheckGRPC:
		return newGRPCProber(spec, via), nil
	case discovery.CheckExec:
		return newExecProber(spec), nil
	}
	return nil, discovery.Errorf(discovery.ErrInvalid, "check %s: type %q cannot be probed", spec.ID, string(spec.Type))
}

// resolveAddress fills in the default address of a tcp or grpc check, the instance's own, so
// that two specs are equal when they probe the same thing.
func resolveAddress(spec discovery.CheckSpec, address string, port int) (discovery.CheckSpec, error) {
	if spec.Type != discovery.CheckTCP && spec.Type != discovery.CheckGRPC {
		return spec, nil
	}
	if spec.Address == "" {
		spec.Address = net.JoinHostPort(address, strconv.Itoa(port))
	}
	_, err := splitHost(spec)
	return spec, err
}

// failure returns the result of a probe without an answer: critical, with the reason.
func failure(ctx context.Context, what string, timeout time.Duration, err error) result {
	late := ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	if late {
		return result{discovery.Critical, fmt.Sprintf("%s: no answer within %v", what, timeout)}
	}
	return result{discovery.Critical, fmt.Sprintf("%s: %v", what, err)}
}
