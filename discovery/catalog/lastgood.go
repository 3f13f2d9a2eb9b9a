package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"disc/discovery"
)

// Store keeps the last good view over restarts.
type Store interface {
	// Load returns what was saved, and when it last was saved or touched. It is an
	// [fs.ErrNotExist] when nothing was.
	Load() (content []byte, confirmed time.Time, err error)
	// Save replaces what was saved as a whole, or leaves it as it was.
	Save(content []byte) error
	// Touch notes that what was saved still holds.
	Touch() error
}

// keepEvery is how often the view is saved at most.
const keepEvery = 5 * time.Second

// lastGoodFormat is the first line of a saved view, before its checksum.
const lastGoodFormat = "disc last-good 1 sha256 "

// savedView is a view as it is saved.
type savedView struct {
	Prefix   string             `json:"prefix"` // of the namespace in etcd
	Revision int64              `json:"revision"`
	Epoch    string             `json:"epoch"`
	Keys     []discovery.Change `json:"keys"`
	Partial  bool               `json:"partial,omitempty"` // not of everything, which was not watched
}

// encodeView writes a view with a checksum in front.
func encodeView(v savedView) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the view: %w", err)
	}
	return append([]byte(lastGoodFormat+checksum(body)+"\n"), body...), nil
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// decodeView reads what encodeView wrote. What is torn, altered or of another format
// is refused.
func decodeView(content []byte) (savedView, error) {
	head, body, ok := bytes.Cut(content, []byte("\n"))
	if !ok || !bytes.HasPrefix(head, []byte(lastGoodFormat)) {
		return savedView{}, errors.New("it is of another format")
	}
	if string(head[len(lastGoodFormat):]) != checksum(body) {
		return savedView{}, errors.New("its checksum does not match: it is torn or was altered")
	}
	var v savedView
	if err := json.Unmarshal(body, &v); err != nil {
		return savedView{}, err
	}
	return v, nil
}

// restore begins with the last good view, which is stale until etcd confirms it.
func (c *Catalog) restore() {
	content, confirmed, err := c.options.LastGood.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var v savedView
	if err == nil {
		v, err = decodeView(content)
	}
	if err == nil && v.Prefix != c.keys.Prefix() {
		err = fmt.Errorf("it is of %s", v.Prefix)
	}
	if err != nil {
		c.metrics.lastGood.WithLabelValues("load").Inc()
		c.log.Warn("last good view cannot be used; there is none until etcd answers", "error", err)
		return
	}
	if now := time.Now(); confirmed.After(now) {
		confirmed = now // the wall clock went back meanwhile; an age is never negative
	}
	c.interest.whole.Store(!v.Partial)
	c.outdated = time.Since(confirmed) > c.options.Remember
	next, _, _ := discovery.EmptySnapshot().WithEpoch(v.Epoch).Apply(v.Revision, v.Keys)
	c.state.Store(&state{snapshot: next, confirmed: confirmed, kept: true})
	c.log.Info("answering from the last good view until etcd confirms it", "revision", v.Revision, "confirmed", confirmed.UTC().Format(time.RFC3339))
}

// keepLastGood saves the view after changes, until ctx ends; then once more. A view
// that takes long to save is saved less often, and so is one that cannot be saved.
func (c *Catalog) keepLastGood(ctx context.Context) {
	var saved *discovery.Snapshot
	var failures discovery.Backoff
	wait := keepEvery
	for ctx.Err() == nil {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		began := time.Now()
		next, err := c.saveView(saved)
		if err == nil {
			saved, wait = next, max(keepEvery, 50*time.Since(began))
			failures.Reset()
			continue
		}
		c.metrics.lastGood.WithLabelValues("save").Inc()
		if failures.Failed() {
			c.log.Warn("last good view cannot be saved; a restart without etcd would have an older one, or none", "error", err)
		}
	}
}

// saveView saves the view unless it is the one that is saved, or not confirmed. It
// returns the snapshot that is saved.
func (c *Catalog) saveView(saved *discovery.Snapshot) (*discovery.Snapshot, error) {
	s := c.state.Load()
	if s == nil || s.kept || time.Since(s.confirmed) > c.options.StaleAfter {
		return saved, nil
	}
	if saved != nil && s.snapshot.Position() == saved.Position() {
		return saved, c.options.LastGood.Touch()
	}
	return s.snapshot, c.save(s.snapshot)
}

func (c *Catalog) save(s *discovery.Snapshot) error {
	content, err := encodeView(savedView{Prefix: c.keys.Prefix(), Revision: s.Revision(), Epoch: s.Epoch(), Keys: s.Changes(), Partial: !c.interest.whole.Load()})
	if err != nil {
		return err
	}
	return c.options.LastGood.Save(content)
}
