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

// A saved view consists of a line with the format, a line of JSON with the header, each
// key as etcd's mvccpb.KeyValue after its length, and the SHA-256 of all that. A key of
// version 0, which in etcd means that it is deleted, belongs to a suspect.

// lastGoodFormat is the first line of a saved view.
const lastGoodFormat = "disc last-good 2\n"

// lastGoodHeader is the second line of a saved view.
type lastGoodHeader struct {
	Prefix   string `json:"prefix"` // of the namespace in etcd
	Revision int64  `json:"revision"`
	Epoch    string `json:"epoch"`
	Partial  bool   `json:"partial,omitempty"` // not the whole namespace was watched
}

// lastGoodView is a saved view that was read back.
type lastGoodView struct {
	lastGoodHeader
	changes []view.Change // from an empty snapshot
}

// writeLastGood writes a snapshot, key by key.
func writeLastGood(to io.Writer, header lastGoodHeader, keys discovery.Keys, s *view.Snapshot) error {
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(to, sum))
	line, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encode header: %w", err)
	}
	fmt.Fprintf(w, "%s%s\n", lastGoodFormat, line) // Flush returns its error
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

// readLastGood reads what writeLastGood wrote. It returns an error for content that is
// truncated, altered, of another format or of another namespace.
func readLastGood(content []byte, keys discovery.Keys) (v lastGoodView, err error) {
	if !bytes.HasPrefix(content, []byte(lastGoodFormat)) {
		return lastGoodView{}, errors.New("its format is unknown")
	}
	end := len(content) - sha256.Size
	if sum := sha256.Sum256(content[:max(end, 0)]); end < len(lastGoodFormat) || !bytes.Equal(content[end:], sum[:]) {
		return lastGoodView{}, errors.New("its checksum does not match: it is truncated or was altered")
	}
	header, body, _ := bytes.Cut(content[len(lastGoodFormat):end], []byte("\n"))
	if err := json.Unmarshal(header, &v.lastGoodHeader); err != nil {
		return lastGoodView{}, fmt.Errorf("read header: %w", err)
	}
	if v.Prefix != keys.Prefix() {
		return lastGoodView{}, fmt.Errorf("it belongs to another namespace, with prefix %s", v.Prefix)
	}
	for r := bytes.NewReader(body); r.Len() > 0; {
		var kv mvccpb.KeyValue
		if err := protodelim.UnmarshalFrom(r, &kv); err != nil {
			return lastGoodView{}, fmt.Errorf("read key: %w", err)
		}
		c := changeFrom(parse(keys, kv.Key), &kv)
		c.Suspect = kv.Version == 0
		v.changes = append(v.changes, c)
	}
	return v, nil
}
