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

// result is what one run of a check found.
type result struct {
	status discovery.Status
	output string
}

// prober runs a check once. It returns when ctx ends, at the latest.
type prober interface {
	probe(ctx context.Context) result
}

// network is where a check's settings come from and what they may reach.
type network struct {
	dialer *net.Dialer
	roots  *x509.CertPool // nil: the system's
}

// newProber returns the prober of a check with defaults, other than ttl.
func newProber(spec discovery.CheckSpec, from network) (prober, error) {
	switch spec.Type {
	case discovery.CheckHTTP:
		return newHTTPProber(spec, from)
	case discovery.CheckTCP:
		return &tcpProber{spec.Address, time.Duration(spec.Timeout), from.dialer}, nil
	case discovery.CheckGRPC:
		return newGRPCProber(spec, from), nil
	case discovery.CheckExec:
		return newExecProber(spec), nil
	}
	return nil, discovery.Errorf(discovery.ErrInvalid, "check %s: type %q cannot be probed", spec.ID, string(spec.Type))
}

// resolveAddress fills in the address that a tcp or grpc check has by default, so that two
// specs are equal when they probe the same thing.
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

// failure is the result of a probe that got no answer: critical, with the reason.
func failure(ctx context.Context, what string, timeout time.Duration, err error) result {
	late := ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	if late {
		return result{discovery.Critical, fmt.Sprintf("%s: no answer within %v", what, timeout)}
	}
	return result{discovery.Critical, fmt.Sprintf("%s: %v", what, err)}
}
