package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// runEnvoyLimit runs 'envoylimit ADDRESS DOMAIN KEY=VALUE[,KEY=VALUE...][*HITS]...', which asks
// for rate limits as Envoy does. It sends one request with a descriptor for each argument, and
// writes the overall code and the code of each descriptor.
func runEnvoyLimit() {
	if err := askLimit(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func askLimit(address, domain string, descriptors []string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	request := &ratelimitv3.RateLimitRequest{Domain: domain}
	for _, text := range descriptors {
		d, err := limitDescriptor(text)
		if err != nil {
			return err
		}
		request.Descriptors = append(request.Descriptors, d)
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	r, err := ratelimitv3.NewRateLimitServiceClient(conn).ShouldRateLimit(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	words := []string{r.OverallCode.String() + ":"}
	for _, s := range r.Statuses {
		words = append(words, s.Code.String())
	}
	_, err = fmt.Println(strings.Join(words, " "))
	return err
}

func limitDescriptor(text string) (*commonv3.RateLimitDescriptor, error) {
	d := &commonv3.RateLimitDescriptor{}
	entries, hits, counted := strings.Cut(text, "*")
	if counted {
		n, err := strconv.ParseUint(hits, 10, 64)
		if err != nil {
			return nil, err
		}
		d.HitsAddend = wrapperspb.UInt64(n)
	}
	for entry := range strings.SplitSeq(entries, ",") {
		key, value, _ := strings.Cut(entry, "=")
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	return d, nil
}
