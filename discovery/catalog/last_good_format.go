package catalog

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protodelim"

	"disc/discovery"
	"disc/discovery/view"
)

// A saved view is a line with its format, a line of JSON with its head, each of its keys
// as etcd's own message behind its length, and the SHA-256 of all that. A key of version
// 0, which etcd gives to what is deleted, is that of a suspect.

// lastGoodFormat is the first line.
const lastGoodFormat = "disc last-good 2\n"

// lastGoodHeader is what a saved view says of itself.
type lastGoodHeader struct {
	Prefix   string `json:"prefix"` // of the namespace in etcd
	Revision int64  `json:"revision"`
	Epoch    string `json:"epoch"`
	Partial  bool   `json:"partial,omitempty"` // not of everything, which was not watched
}

// lastGoodView is a view that was read back.
type lastGoodView struct {
	lastGoodHeader
	changes []view.Change // that make it
}

// writeLastGood writes a view, key by key.
func writeLastGood(to io.Writer, head lastGoodHeader, keys discovery.Keys, s *view.Snapshot) error {
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(to, sum))
	line, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode the head of the view: %w", err)
	}
	fmt.Fprintf(w, "%s%s\n", lastGoodFormat, line) // an error comes back from Flush
	for c := range s.Changes() {
		kv := mvccpb.KeyValue{Key: []byte(keys.Name(c.Key)), Value: c.Value, CreateRevision: c.Created, ModRevision: c.Modified, Lease: c.Lease, Version: 1}
		if c.Suspect {
			kv.Version = 0
		}
		if _, err := protodelim.MarshalTo(w, &kv); err != nil {
			return fmt.Errorf("write %s: %w", kv.Key, err)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = to.Write(sum.Sum(nil))
	return err
}

// readLastGood reads what writeView wrote. What is torn, altered, of another format or of
// another namespace is refused.
func readLastGood(content []byte, keys discovery.Keys) (v lastGoodView, err error) {
	if !bytes.HasPrefix(content, []byte(lastGoodFormat)) {
		return lastGoodView{}, errors.New("it is of another format")
	}
	end := len(content) - sha256.Size
	if sum := sha256.Sum256(content[:max(end, 0)]); end < len(lastGoodFormat) || !bytes.Equal(content[end:], sum[:]) {
		return lastGoodView{}, errors.New("its checksum does not match: it is torn or was altered")
	}
	head, body, _ := bytes.Cut(content[len(lastGoodFormat):end], []byte("\n"))
	if err := json.Unmarshal(head, &v.lastGoodHeader); err != nil {
		return lastGoodView{}, fmt.Errorf("its head cannot be read: %w", err)
	}
	if v.Prefix != keys.Prefix() {
		return lastGoodView{}, fmt.Errorf("it is of %s", v.Prefix)
	}
	for r := bytes.NewReader(body); r.Len() > 0; {
		var kv mvccpb.KeyValue
		if err := protodelim.UnmarshalFrom(r, &kv); err != nil {
			return lastGoodView{}, fmt.Errorf("its keys cannot be read: %w", err)
		}
		c := changeFrom(parse(keys, kv.Key), &kv)
		c.Suspect = kv.Version == 0
		v.changes = append(v.changes, c)
	}
	return v, nil
}
