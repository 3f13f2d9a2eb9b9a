package etcd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
)

// denied is an [rpctypes.ErrPermissionDenied] that knows what its request read and wrote.
// etcd does not say which of the keys it denied.
type denied struct{ read, written access }

// access is what a request does to its keys in one way.
type access struct {
	first  string   // key
	keys   int      // their number, ranges counted as one
	grants []string // what a role must be granted, without repetitions
}

// maxGrants bounds the grants that an error names.
const maxGrants = 8

func (a *access) add(grant func(from, to string) string, key, end []byte) {
	if a.keys++; a.keys == 1 {
		a.first = string(key)
	}
	if g := grant(string(key), string(end)); !slices.Contains(a.grants, g) {
		a.grants = append(a.grants, g)
	}
}

// denyUnary makes the error of a request that etcd denies a *denied.
func denyUnary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err == nil || rpctypes.ErrorDesc(err) != rpctypes.ErrPermissionDenied.Error() {
		return err
	}
	d := &denied{}
	if d.note(req); d.read.keys+d.written.keys == 0 {
		return err // of a lease, say: it has no keys of its own
	}
	return d
}

// note notes what a request reads and writes.
func (d *denied) note(req any) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		d.read.add(discovery.GrantToRead, r.Key, r.RangeEnd)
	case *pb.PutRequest:
		d.written.add(discovery.GrantToWrite, r.Key, nil)
	case *pb.DeleteRangeRequest:
		d.written.add(discovery.GrantToWrite, r.Key, r.RangeEnd)
	case *pb.TxnRequest:
		for _, c := range r.Compare {
			d.read.add(discovery.GrantToRead, c.Key, c.RangeEnd)
		}
		for _, op := range slices.Concat(r.Success, r.Failure) {
			switch op := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
				d.note(op.RequestRange)
			case *pb.RequestOp_RequestPut:
				d.note(op.RequestPut)
			case *pb.RequestOp_RequestDeleteRange:
				d.note(op.RequestDeleteRange)
			case *pb.RequestOp_RequestTxn:
				d.note(op.RequestTxn)
			}
		}
	}
}

func (d *denied) Error() string {
	return "permission denied" + d.each(" to ", " or to ", func(verb string, a access) string { return verb + " " + a.what() }) +
		"; grant the user's role " + d.each("", " and ", func(verb string, a access) string { return verb + " on " + listGrants(a.grants) })
}

// each joins the texts about what was read and what was written, as far as there is any.
func (d *denied) each(first, between string, about func(verb string, a access) string) string {
	var texts []string
	for _, one := range []struct {
		verb string
		access
	}{{"read", d.read}, {"write", d.written}} {
		if one.keys > 0 {
			texts = append(texts, about(one.verb, one.access))
		}
	}
	return first + strings.Join(texts, between)
}

// what names the keys: the first, and how many more there are.
func (a access) what() string {
	text := printable(a.first)
	if a.keys > 1 {
		text += fmt.Sprintf(" and %d more", a.keys-1)
	}
	return text
}

// listGrants lists prefixes, which end in "/", and single keys.
func listGrants(grants []string) string {
	var texts []string
	for _, g := range grants[:min(len(grants), maxGrants)] {
		if strings.HasSuffix(g, "/") {
			g = "prefix " + g
		}
		texts = append(texts, printable(g))
	}
	if more := len(grants) - maxGrants; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}

// printable returns text for a terminal: keys may have any bytes.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) && len(text) <= 300 {
		return text
	}
	return strconv.Quote(text[:min(len(text), 300)])
}

// GRPCStatus lets the code of the error be found. Its message is not that of
// [rpctypes.ErrPermissionDenied], by which clientv3 would replace this error.
func (d *denied) GRPCStatus() *status.Status { return status.New(codes.PermissionDenied, d.Error()) }

func (*denied) Unwrap() error { return rpctypes.ErrPermissionDenied }
