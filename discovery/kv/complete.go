package kv

import (
	"context"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// completionPage is the number of keys that Complete reads at once.
const completionPage = 100

// Complete returns up to most completions of the beginning of a key, up to the next "/" and
// sorted: keys, and prefixes, which end in "/". It reads from etcd and skips the keys below
// each prefix, so that its cost grows with the names, not with the keys.
func (s *Store) Complete(ctx context.Context, begin string, most int) ([]string, error) {
	r := s.prefixRange(begin)
	directory := begin[:strings.LastIndexByte(begin, '/')+1]
	var names []string
	for from := r.From; len(names) < most; {
		got, err := s.client.Get(ctx, from, clientv3.WithRange(r.To), clientv3.WithLimit(completionPage), clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		for _, kv := range got.Kvs {
			key := string(kv.Key[len(s.prefix):])
			first, _, isPrefix := strings.Cut(key[len(directory):], "/")
			name := directory + first
			from = string(kv.Key) + "\x00"
			if isPrefix {
				name += "/"
				from = s.prefix + directory + first + "0" // '0' follows '/'
			}
			if n := len(names); n == 0 || names[n-1] != name {
				names = append(names, name)
			}
		}
		if !got.More {
			break
		}
	}
	return slices.Clip(names[:min(len(names), most)]), nil
}
