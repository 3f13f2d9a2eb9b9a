package envoy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"disc/discovery"
)

// purse is a set of limits, each with some tokens left.
type purse struct {
	left  map[string]int64
	taken []string
	err   error
}

func (s *purse) Exists(_ context.Context, name string) (bool, error) {
	_, ok := s.left[name]
	return ok, s.err
}

func (s *purse) TakeAll(_ context.Context, takes []discovery.Take) ([]discovery.Decision, error) {
	var all []discovery.Decision
	limit := discovery.Limit{Rate: 100, Per: discovery.Duration(time.Minute), Burst: 9}
	for _, t := range takes {
		if t.N > limit.Burst {
			return all, discovery.Errorf(discovery.ErrInvalid, "limit %s: %d tokens cannot be taken at once", t.Limit, t.N)
		}
		if s.left[t.Limit] < t.N {
			return append(all, discovery.Decision{Limit: limit, RetryAfter: 1500 * time.Millisecond}), nil
		}
		all = append(all, discovery.Decision{Limit: limit, Granted: true, Remaining: s.left[t.Limit] - t.N, Full: 2 * time.Second})
	}
	for _, t := range takes {
		s.left[t.Limit] -= t.N
		s.taken = append(s.taken, fmt.Sprint(t.Limit, "-", t.N))
	}
	return all, nil
}

// entries returns a descriptor of "key=value" strings.
func entries(texts ...string) *commonv3.RateLimitDescriptor {
	d := &commonv3.RateLimitDescriptor{}
	for _, t := range texts {
		key, value, _ := strings.Cut(t, "=")
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	return d
}

func TestShouldRateLimit(t *testing.T) {
	withHits := func(d *commonv3.RateLimitDescriptor, n uint64) *commonv3.RateLimitDescriptor {
		d.HitsAddend = wrapperspb.UInt64(n)
		return d
	}
	for name, c := range map[string]struct {
		descriptors []*commonv3.RateLimitDescriptor
		addend      uint32
		taken       []string
		over        []bool
	}{
		"exact":          {descriptors: []*commonv3.RateLimitDescriptor{entries("generic_key=login")}, taken: []string{"edge:generic_key.login-1"}, over: []bool{false}},
		"any value":      {descriptors: []*commonv3.RateLimitDescriptor{entries("remote_address=10.0.0.1")}, taken: []string{"edge:remote_address-1"}, over: []bool{false}},
		"two entries":    {descriptors: []*commonv3.RateLimitDescriptor{entries("path=/a b", "method=GET")}, taken: []string{"edge:path._a_b:method.GET-1"}, over: []bool{false}},
		"not limited":    {descriptors: []*commonv3.RateLimitDescriptor{entries("other=x")}, over: []bool{false}},
		"several hits":   {descriptors: []*commonv3.RateLimitDescriptor{entries("generic_key=login")}, addend: 3, taken: []string{"edge:generic_key.login-3"}, over: []bool{false}},
		"its own hits":   {descriptors: []*commonv3.RateLimitDescriptor{withHits(entries("generic_key=login"), 2)}, addend: 3, taken: []string{"edge:generic_key.login-2"}, over: []bool{false}},
		"over":           {descriptors: []*commonv3.RateLimitDescriptor{entries("generic_key=none")}, over: []bool{true}},
		"never":          {descriptors: []*commonv3.RateLimitDescriptor{entries("remote_address=x"), withHits(entries("generic_key=login"), 10)}, taken: nil, over: []bool{false, true}},
		"all or none":    {descriptors: []*commonv3.RateLimitDescriptor{entries("generic_key=login"), entries("other=x"), entries("generic_key=none")}, over: []bool{false, false, true}},
		"all of several": {descriptors: []*commonv3.RateLimitDescriptor{entries("generic_key=login"), entries("remote_address=x")}, taken: []string{"edge:generic_key.login-1", "edge:remote_address-1"}, over: []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &purse{left: map[string]int64{"edge:generic_key.login": 5, "edge:generic_key.none": 0, "edge:remote_address": 5, "edge:path._a_b:method.GET": 1}}
			r, err := serveLimits(t, s).ShouldRateLimit(t.Context(), &ratelimitv3.RateLimitRequest{Domain: "edge", Descriptors: c.descriptors, HitsAddend: c.addend})
			if err != nil {
				t.Fatal(err)
			}
			var over []bool
			for _, status := range r.Statuses {
				over = append(over, status.Code == ratelimitv3.RateLimitResponse_OVER_LIMIT)
			}
			all := r.OverallCode == ratelimitv3.RateLimitResponse_OVER_LIMIT
			if !slices.Equal(over, c.over) || all != slices.Contains(c.over, true) || !slices.Equal(s.taken, c.taken) {
				t.Errorf("answered %v and took %v", r, s.taken)
			}
		})
	}
}

func TestRateLimitStatus(t *testing.T) {
	client := serveLimits(t, &purse{left: map[string]int64{"edge:a": 5, "edge:b": 0}})
	r, err := client.ShouldRateLimit(t.Context(), &ratelimitv3.RateLimitRequest{Domain: "edge", Descriptors: []*commonv3.RateLimitDescriptor{entries("a="), entries("b=")}})
	if err != nil {
		t.Fatal(err)
	}
	a, b := r.Statuses[0], r.Statuses[1]
	if l := a.CurrentLimit; l.RequestsPerUnit != 100 || l.Unit != ratelimitv3.RateLimitResponse_RateLimit_MINUTE || l.Name != "edge:a" {
		t.Errorf("limit %v", l)
	}
	if a.LimitRemaining != 4 || a.DurationUntilReset.AsDuration() != 2*time.Second || b.DurationUntilReset.AsDuration() != 1500*time.Millisecond {
		t.Errorf("statuses %v and %v", a, b)
	}
}

func TestRateLimitRefused(t *testing.T) {
	s := &purse{left: map[string]int64{"edge:a": 5}}
	client := serveLimits(t, s)
	for _, r := range []*ratelimitv3.RateLimitRequest{
		{Descriptors: []*commonv3.RateLimitDescriptor{entries("a=")}},
		{Domain: "edge"},
		{Domain: "edge", Descriptors: slices.Repeat([]*commonv3.RateLimitDescriptor{entries("a=")}, MaxDescriptors+1)},
	} {
		if _, err := client.ShouldRateLimit(t.Context(), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%d descriptors of domain %q: %v", len(r.Descriptors), r.Domain, err)
		}
	}
	s.err = discovery.Errorf(discovery.ErrUnavailable, "etcd is away")
	if _, err := client.ShouldRateLimit(t.Context(), &ratelimitv3.RateLimitRequest{Domain: "edge", Descriptors: []*commonv3.RateLimitDescriptor{entries("a=")}}); status.Code(err) != codes.Unavailable {
		t.Errorf("without etcd: %v", err)
	}
}

func FuzzRateLimitRequest(f *testing.F) {
	f.Add([]byte("\n\x04edge\x12\x0e\n\x0c\n\x03key\x12\x05value\x18\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r rateLimitRequest
		if r.decode(b) != nil {
			return
		}
		for _, d := range r.descriptors {
			for _, name := range limitNames(r.domain, d) {
				if err := discovery.ValidateLimit(name); err != nil && strings.Contains(err.Error(), " has ") && len(name) <= discovery.MaxID {
					t.Errorf("name %q: %v", name, err)
				}
			}
		}
	})
}

// serveLimits serves limits to a client of Envoy's own types.
func serveLimits(t *testing.T, limits Limits) ratelimitv3.RateLimitServiceClient {
	t.Helper()
	return ratelimitv3.NewRateLimitServiceClient(serveWith(t, newFleet(t), Options{Limits: limits}).conn)
}
