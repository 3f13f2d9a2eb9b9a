package api

import (
	"context"
	"net/url"
	"strconv"

	"disc/discovery"
)

// Numbers of versions in a history.
const (
	DefaultKVVersions = 10
	MaxKVVersions     = 100
)

// KVHistory are versions of a key.
type KVHistory struct {
	Key      string      `json:"key"`
	Versions []KVVersion `json:"versions"` // newest first; at least one
	Older    KVOlder     `json:"older"`
}

// KVVersion is a write or a deletion of a key.
type KVVersion struct {
	Revision int64  `json:"revision"`          // etcd's, of the write or the deletion
	Deleted  bool   `json:"deleted,omitempty"` // or expired; the following fields are absent
	Value    []byte `json:"value,omitzero"`    // in base64
	Created  int64  `json:"created,omitempty"` // etcd's, of the write that created the key
	Number   int64  `json:"number,omitempty"`  // of the writes since then, from 1
	Expires  bool   `json:"expires,omitempty"` // it had a TTL
	// ExpiresIn is the time that the present value has left, if it has a TTL.
	ExpiresIn discovery.Duration `json:"expires_in,omitzero"`
}

// KVOlder tells what there is before the oldest version of a history.
type KVOlder string

// The values of KVOlder.
const (
	KVOlderMore      KVOlder = "more"       // more versions: ask with From below the oldest
	KVOlderCompacted KVOlder = "compacted"  // there were more, and etcd has compacted them
	KVOlderNone      KVOlder = "none_found" // the oldest created the key, and no earlier one was found
)

// KVHistoryOptions choose the versions of a history.
type KVHistoryOptions struct {
	From int64 // etcd's revision to go back from; 0: the present one
	Max  int   // number of versions, up to MaxKVVersions; 0: DefaultKVVersions
}

// KVHistory reads versions of a key from etcd, newest first. ErrNotFound: the agent finds none,
// or etcd has compacted o.From. ErrInvalid: etcd has not reached o.From.
func (c *Client) KVHistory(ctx context.Context, key string, o KVHistoryOptions) (KVHistory, Freshness, error) {
	q := url.Values{"history": {"true"}}
	if o.From != 0 {
		q.Set("rev", strconv.FormatInt(o.From, 10))
	}
	if o.Max != 0 {
		q.Set("max", strconv.Itoa(o.Max))
	}
	var h KVHistory
	resp, err := c.call(ctx, request{method: "GET", path: kvPath(key), query: q}, &h)
	if err != nil {
		return KVHistory{}, Freshness{}, err
	}
	return h, freshnessOf(resp.Header), nil
}

// KVGetAt reads the value that a key had at a revision of etcd. ErrNotFound: the key was not
// there, or etcd has compacted the revision. ErrInvalid: etcd has not reached it.
func (c *Client) KVGetAt(ctx context.Context, key string, revision int64) (KVItem, Freshness, error) {
	return c.kvGet(ctx, key, url.Values{"rev": {strconv.FormatInt(revision, 10)}})
}
