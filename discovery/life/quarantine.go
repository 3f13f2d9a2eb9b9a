package life

import (
	"context"
	"encoding/json"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
)

// The length of a quarantine: its default and its range.
const (
	DefaultQuarantine = time.Minute
	MinQuarantine     = 2 * time.Second
	MaxQuarantine     = time.Hour
)

// learnTime is how long an agent may take to learn of another length: it asks each checkInterval.
const learnTime = checkInterval + 10*time.Second

// lengthRecord is the value of the key of the length of quarantines.
type lengthRecord struct {
	Length discovery.Duration `json:"length"`
	Before discovery.Duration `json:"before,omitempty"` // until agents have known Length for as long as the longer of both
}

// parseLength decodes a record. One that is not valid counts as the default.
func (l *Life) parseLength(value []byte) lengthRecord {
	var r lengthRecord
	err := json.Unmarshal(value, &r)
	if valid := func(d discovery.Duration) bool {
		return time.Duration(d) >= MinQuarantine && time.Duration(d) <= MaxQuarantine
	}; err != nil || !valid(r.Length) || r.Before != 0 && !valid(r.Before) {
		l.log.Warn("the length of quarantines is not valid; using the default", "key", l.keys.QuarantineLength(), "default", DefaultQuarantine)
		return lengthRecord{Length: discovery.Duration(DefaultQuarantine)}
	}
	return r
}

// quarantine is the length of quarantines as an agent knows it.
type quarantine struct {
	lengthRecord
	since time.Duration // uptime at which the agent has learned it
	floor time.Duration // a longer length that the agent knew before, in effect until since + floor
}

// after returns what is known after a record was read.
func (q quarantine) after(r lengthRecord, now time.Duration) quarantine {
	if q.lengthRecord == r {
		return q
	}
	return quarantine{r, now, q.length(now)}
}

// settled reports whether every promise that was made under the length before has ended.
func (q quarantine) settled(now time.Duration) bool { return now >= q.settledAt() }

// settledAt returns the uptime from which on settled is true: others learn of a change later.
func (q quarantine) settledAt() time.Duration {
	if q.Before == 0 && q.floor == 0 {
		return q.since
	}
	return q.since + learnTime + max(time.Duration(q.Length), time.Duration(q.Before), q.floor)
}

// length returns the length of a quarantine that begins now.
func (q quarantine) length(now time.Duration) time.Duration {
	if q.settled(now) {
		return time.Duration(q.Length)
	}
	return max(time.Duration(q.Length), time.Duration(q.Before), q.floor)
}

// promise returns how long a promise may last that is made now. It is never longer than a
// quarantine that any agent may begin meanwhile.
func (q quarantine) promise(now time.Duration) time.Duration {
	d := time.Duration(q.Length)
	if !q.settled(now) && q.Before > 0 {
		d = min(d, time.Duration(q.Before))
	}
	if !q.settled(now) && q.floor > 0 {
		d = min(d, q.floor)
	}
	return d
}

// ReadQuarantine reads the length of a quarantine that begins now, for a program that is no agent.
// No promise of a grant lasts longer.
func ReadQuarantine(ctx context.Context, client *clientv3.Client, keys discovery.Keys) (time.Duration, error) {
	l := New(client, keys, Options{})
	found, err := l.read(ctx, client, memory{})
	if err != nil {
		return 0, err
	}
	return max(time.Duration(found.length.Length), time.Duration(found.length.Before)), nil
}

// Quarantine returns the length of a quarantine that begins now.
func (l *Life) Quarantine() time.Duration {
	now := lease.Uptime()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory.quarantine.length(now)
}

// MaxPromise returns how long a promise may last that is made now: no longer than a quarantine.
func (l *Life) MaxPromise() time.Duration {
	now := lease.Uptime()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory.quarantine.promise(now)
}
