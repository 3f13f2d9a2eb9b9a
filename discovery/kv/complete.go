package kv

import (
	"context"
	"strings"

	"disc/discovery/etcd"
)

// completionPage is the number of keys that Complete reads at once.
const completionPage = 100

// Complete returns up to most completions, at least 1, of the beginning of a key, up to the
// next "/" and sorted: keys, and prefixes, which end in "/". It reads from etcd and skips
// the keys below each prefix, so that its cost grows with the names, not with the keys. The
// error is etcd's.
func (s *Store) Complete(ctx context.Context, begin string, most int) ([]string, error) {
	directory := begin[:strings.LastIndexByte(begin, '/')+1]
	var names []string
	for child, err := range etcd.Children(ctx, s.client, s.prefix+begin, completionPage) {
		if err != nil {
			return nil, err
		}
		if names = append(names, directory+child); len(names) >= most {
			break
		}
	}
	return names, nil
}
