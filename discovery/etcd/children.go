package etcd

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Children yields the next path segment, up to the following "/", of the keys that begin
// with prefix, each segment once and in the order of the keys. Below "/a/b", the keys
// "/a/b1", "/a/b2/x" and "/a/b2/y" have the children "b1" and "b2/": a segment that has
// keys below it ends in "/", and one that is a key does not.
//
// Children reads all at one revision, or what is left at a later one if etcd compacts the
// revision meanwhile. It skips the keys below a child, so that it costs
// as much as there are children. A call reads up to page keys: 1 is right where a child
// has many keys below it, more where most children are keys. On an error, Children
// yields it with an empty segment and ends.
func Children(ctx context.Context, kv clientv3.KV, prefix string, page int64) iter.Seq2[string, error] {
	directory := prefix[:strings.LastIndexByte(prefix, '/')+1]
	return func(yield func(string, error) bool) {
		from, to, revision := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
		for more := true; more; {
			got, err := kv.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(page), clientv3.WithKeysOnly(), clientv3.WithRev(revision))
			if errors.Is(err, rpctypes.ErrCompacted) && revision > 0 {
				revision = 0 // go on at the present revision, as a listing of many pages must
				continue
			}
			if err != nil {
				yield("", err)
				return
			}
			more, revision = got.More, cmp.Or(revision, got.Header.Revision)
			for _, kv := range got.Kvs {
				key := string(kv.Key)
				if key < from {
					continue // it lies below a child that was yielded
				}
				child, _, below := strings.Cut(key[len(directory):], "/")
				from = key + "\x00"
				if below {
					from = directory + child + "0" // '0' follows '/'
					child += "/"
				}
				if !yield(child, nil) {
					return
				}
			}
		}
	}
}
