package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// Limits of key/value writes.
const (
	MaxKVValue = 512 << 10            // bytes of a value
	MaxKVBatch = 1 << 20              // bytes of all keys and values in one write
	MaxKVTTL   = 365 * 24 * time.Hour // the least TTL is one second
)

// MaxKVBody is the most bytes of the body of a key/value write: a batch of [MaxKVBatch] in
// base64, and the JSON around it.
const MaxKVBody = 2 << 20

// KVItem is a key with its value.
type KVItem struct {
	Key      string `json:"key"`
	Value    []byte `json:"value"`             // in base64
	Revision int64  `json:"revision"`          // etcd's, of the last write
	Created  int64  `json:"created"`           // etcd's, of the write that created the key
	Expires  bool   `json:"expires,omitempty"` // it has a TTL
}

// The operations of a batch.
const (
	KVPut    = "put"
	KVDelete = "delete"
)

// KVOp is one operation of a batch.
type KVOp struct {
	Op         string             `json:"op"` // KVPut or KVDelete
	Key        string             `json:"key"`
	Value      []byte             `json:"value,omitempty"`       // in base64
	TTL        discovery.Duration `json:"ttl,omitempty"`         // 0: none
	IfRevision *int64             `json:"if_revision,omitempty"` // that the key must have; 0: it must not exist
	IfExists   bool               `json:"-"`                     // the key must exist
}

// KVBatch is the body of POST /v1/kv.
type KVBatch struct {
	Ops []KVOp `json:"ops"`
}

// KVWritten is the response to POST /v1/kv.
type KVWritten struct {
	Revision int64 `json:"revision"` // etcd's, of the write
}

// KVEvent is an event of a watch of keys.
type KVEvent struct {
	// Cursor resumes a watch after this event, as in [Event].
	Cursor   string         `json:"-"`
	Type     view.EventType `json:"-"` // the name of the server-sent event
	Revision int64          `json:"revision"`
	Key      string         `json:"key,omitempty"`
	Item     *KVItem        `json:"item,omitempty"` // EventPut
	Items    []KVItem       `json:"items,omitzero"` // EventReset; sorted by key
}

// KVRead are the options of a read: how fresh the answer must be. The zero value accepts the
// agent's copy as it is.
type KVRead struct {
	Linearizable bool          // read from etcd, by a linearizable read
	MinRevision  int64         // etcd's, up to which the answer must be complete; 0: any
	MaxAge       time.Duration // since etcd confirmed the answer; 0: any
	Wait         Wait
}

func (r KVRead) query() url.Values {
	q := url.Values{}
	if r.Linearizable {
		q.Set("consistency", "linearizable")
	}
	if r.MinRevision > 0 {
		q.Set("min_rev", strconv.FormatInt(r.MinRevision, 10))
	}
	if r.MaxAge > 0 {
		q.Set("max_age", r.MaxAge.String())
	}
	r.Wait.set(q)
	return q
}

// KVGet reads a key. ErrNotFound: there is no such key.
func (c *Client) KVGet(ctx context.Context, key string, r KVRead) (KVItem, Freshness, error) {
	return c.kvGet(ctx, key, r.query())
}

func (c *Client) kvGet(ctx context.Context, key string, query url.Values) (KVItem, Freshness, error) {
	resp, err := c.send(ctx, request{method: "GET", path: kvPath(key), query: query, accept: "*/*"})
	if err != nil {
		return KVItem{}, Freshness{}, err
	}
	defer resp.Body.Close()
	value, err := io.ReadAll(resp.Body)
	if err != nil {
		return KVItem{}, Freshness{}, c.unreachable(ctx, fmt.Errorf("read the value of key %s: %w", key, err))
	}
	fresh := freshnessOf(resp.Header)
	return KVItem{Key: key, Value: value, Revision: fresh.Index}, fresh, nil
}

// KVList lists the items below a prefix, which is empty or ends in "/", sorted by key.
func (c *Client) KVList(ctx context.Context, prefix string, r KVRead) ([]KVItem, Freshness, error) {
	return kvList[KVItem](ctx, c, prefix, "recurse", r)
}

// KVKeys lists the keys below a prefix, without their values; see [Client.KVList].
func (c *Client) KVKeys(ctx context.Context, prefix string, r KVRead) ([]string, Freshness, error) {
	return kvList[string](ctx, c, prefix, "keys", r)
}

// kvList lists what lies below a prefix, in the form that a query parameter chooses.
func kvList[T any](ctx context.Context, c *Client, prefix, form string, r KVRead) ([]T, Freshness, error) {
	q := r.query()
	q.Set(form, "true")
	var list []T
	resp, err := c.call(ctx, request{method: "GET", path: kvPath(prefix), query: q}, &list)
	if err != nil {
		return nil, Freshness{}, err
	}
	return list, freshnessOf(resp.Header), nil
}

// KVPut writes a key and returns etcd's revision. With ttl 0 the key does not expire. ifRevision
// is the revision that the key must have; 0: it must not exist; nil: any. ErrConflict: the key
// has another revision.
func (c *Client) KVPut(ctx context.Context, key string, value []byte, ttl time.Duration, ifRevision *int64) (int64, error) {
	q := url.Values{}
	if ttl > 0 {
		q.Set("ttl", ttl.String())
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	setIf(header, ifRevision)
	return c.kvWrite(ctx, request{method: "PUT", path: kvPath(key), query: q, header: header, body: append([]byte{}, value...)})
}

// KVDelete deletes a key and returns etcd's revision. It succeeds if the key does not exist. For
// ifRevision see [Client.KVPut].
func (c *Client) KVDelete(ctx context.Context, key string, ifRevision *int64) (int64, error) {
	header := http.Header{}
	setIf(header, ifRevision)
	return c.kvWrite(ctx, request{method: "DELETE", path: kvPath(key), header: header})
}

// KVDeleteBelow deletes all keys below a prefix, which ends in "/", at one revision, and returns
// that.
func (c *Client) KVDeleteBelow(ctx context.Context, prefix string) (int64, error) {
	return c.kvWrite(ctx, request{method: "DELETE", path: kvPath(prefix), query: url.Values{"recurse": {"true"}}})
}

// KVWrite applies all operations in one transaction, or none, and returns etcd's revision.
// ErrConflict: a condition does not hold.
func (c *Client) KVWrite(ctx context.Context, ops []KVOp) (int64, error) {
	return c.kvWrite(ctx, request{method: "POST", path: "/v1/kv", body: KVBatch{ops}})
}

func (c *Client) kvWrite(ctx context.Context, r request) (int64, error) {
	resp, err := c.call(ctx, r, nil)
	if err != nil {
		return 0, err
	}
	return freshnessOf(resp.Header).Revision, nil
}

func setIf(h http.Header, revision *int64) {
	switch {
	case revision == nil:
	case *revision == 0:
		h.Set("If-None-Match", "*")
	default:
		h.Set("If-Match", KVTag(*revision))
	}
}

// KVTag returns the ETag of a key at a revision (RFC 9110).
func KVTag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

func kvPath(key string) string {
	segments := strings.Split(key, "/")
	for n, s := range segments {
		segments[n] = url.PathEscape(s)
	}
	return "/v1/kv/" + strings.Join(segments, "/")
}
