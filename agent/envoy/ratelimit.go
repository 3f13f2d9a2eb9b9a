package envoy

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
)

// Limits are the fleet-wide rate limits.
type Limits interface {
	// TakeAll takes tokens from several limits, from all or from none. It returns the
	// decisions up to the first denial. ErrInvalid: the take after the returned decisions
	// wants more than its limit ever has. ErrNotFound: a limit does not exist.
	TakeAll(ctx context.Context, takes []discovery.Take) ([]discovery.Decision, error)
	// Exists reports whether a limit exists.
	Exists(ctx context.Context, name string) (bool, error)
}

// MaxDescriptors is the most descriptors that one request may have.
const MaxDescriptors = 64

// limitNames returns the names of the limits that may apply to a descriptor. The first that
// exists does:
//
//	<domain>:<key>.<value>:<key>.<value>   all its entries, in their order
//	<domain>:<key>:<key>                   whatever the values, shared by all of them
//
// A character that a limit's name cannot have becomes "_". So the domain "edge" and the
// entry {"generic_key", "login"} lead to the limit edge:generic_key.login.
func limitNames(domain string, d descriptor) []string {
	exact, shared := domain, domain
	for _, e := range d.entries {
		exact += ":" + e.key
		shared += ":" + e.key
		if e.value != "" {
			exact += "." + e.value
		}
	}
	return []string{limitName(exact), limitName(shared)}
}

// limitName replaces what a limit's name cannot have.
func limitName(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r == '.' || r == ':' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return r
		}
		return '_'
	}, s)
}

const rateLimitName = "envoy.service.ratelimit.v3.RateLimitService"

// rateLimitService is envoy.service.ratelimit.v3.RateLimitService.
func (s *Server) rateLimitService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: rateLimitName,
		Methods: []grpc.MethodDesc{{MethodName: "ShouldRateLimit", Handler: func(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var r rateLimitRequest
			if err := read(&r); err != nil {
				return nil, err
			}
			return s.shouldRateLimit(ctx, &r)
		}}},
	}
}

// shouldRateLimit takes from the limits of all descriptors, or from none. A descriptor
// without a limit is not limited, as in Envoy's own rate limit service.
func (s *Server) shouldRateLimit(ctx context.Context, r *rateLimitRequest) (*rateLimitResponse, error) {
	switch {
	case r.domain == "":
		return nil, status.Error(codes.InvalidArgument, "the request has no domain")
	case len(r.descriptors) == 0 || len(r.descriptors) > MaxDescriptors:
		return nil, status.Errorf(codes.InvalidArgument, "the request has %d descriptors; send 1 to %d", len(r.descriptors), MaxDescriptors)
	}
	answer := &rateLimitResponse{code: codeOK, statuses: make([]descriptorStatus, len(r.descriptors))}
	var takes []discovery.Take
	var of []int // the descriptor of each take
	for n, d := range r.descriptors {
		answer.statuses[n].code = codeOK
		name, err := s.limitOf(ctx, r.domain, d)
		if err != nil {
			return nil, s.unavailable(err)
		}
		if hits := r.hits(d); name != "" && hits > 0 {
			takes, of = append(takes, discovery.Take{Limit: name, N: hits}), append(of, n)
		}
	}
	decisions, err := s.options.Limits.TakeAll(ctx, takes)
	impossible := errors.Is(err, discovery.ErrInvalid) && len(decisions) < len(takes)
	if err != nil && !impossible {
		return nil, s.unavailable(err)
	}
	for k, d := range decisions {
		answer.statuses[of[k]] = descriptorStatusOf(takes[k].Limit, d)
		if !d.Granted {
			answer.code = codeOverLimit
		}
	}
	if impossible { // an error would let the request pass
		k := len(decisions)
		answer.code, answer.statuses[of[k]] = codeOverLimit, descriptorStatus{code: codeOverLimit, name: takes[k].Limit}
	}
	return answer, nil
}

// limitOf returns the name of a descriptor's limit; "" if it has none.
func (s *Server) limitOf(ctx context.Context, domain string, d descriptor) (string, error) {
	for _, name := range limitNames(domain, d) {
		if discovery.ValidateLimit(name) != nil {
			continue // too long, or a sign comes first
		}
		known, err := s.options.Limits.Exists(ctx, name)
		if err != nil || known {
			return name, err
		}
	}
	return "", nil
}

// hits returns how many tokens a descriptor takes: its own hits_addend, the request's, or 1.
func (r *rateLimitRequest) hits(d descriptor) int64 {
	switch {
	case d.addend != nil:
		return int64(min(*d.addend, discovery.MaxLimitBurst+1))
	case r.addend != 0:
		return int64(r.addend)
	}
	return 1
}

// descriptorStatusOf returns the status that reports a decision. It leaves out the rate of a
// limit whose period is none of Envoy's units.
func descriptorStatusOf(name string, d discovery.Decision) descriptorStatus {
	s := descriptorStatus{code: codeOK, name: name, remaining: uint32(min(d.Remaining, 1<<32-1)), reset: d.Full}
	if !d.Granted {
		s.code, s.reset = codeOverLimit, d.RetryAfter
	}
	per, ok := units[time.Duration(d.Limit.Per)]
	if ok && d.Limit.Rate >= 1 {
		s.unit, s.rate = per, uint32(min(d.Limit.Rate, 1<<32-1))
	}
	return s
}

// units are the values of RateLimitResponse.RateLimit.Unit.
var units = map[time.Duration]uint32{time.Second: 1, time.Minute: 2, time.Hour: 3, 24 * time.Hour: 4}

// unavailable returns the gRPC status of an error of Limits. Envoy then lets the request
// pass, unless its failure_mode_deny is set.
func (s *Server) unavailable(err error) error {
	if s.options.Explain != nil {
		err = s.options.Explain(err)
	}
	return status.Error(codes.Unavailable, err.Error())
}
