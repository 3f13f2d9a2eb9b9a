package level

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/retry"
)

const (
	// pollInterval is the time between two reads of the level by an agent.
	pollInterval = 5 * time.Minute
	// soonInterval is the time from the first read, of a level that is to rise, to the second, which
	// checks the fleet: who has upgraded an agent sees then what holds the level back.
	soonInterval = 10 * time.Second
	// checkInterval is the least time between two checks of the fleet while the level is to rise.
	checkInterval = 10 * time.Minute
	// idleInterval is that time while all agents that were seen can read the newest level.
	idleInterval = time.Hour
	// cleanChecks is the number of clean checks in a row after which the level rises: a day, or
	// half a day more, since the next check waits for an agent's next read.
	cleanChecks = int(24 * time.Hour / checkInterval)
	// rememberedFor is how long an agent is named that is below the newest level and has gone.
	rememberedFor = 24 * time.Hour
	// refusedReads is the number of reads, an hour, after which an agent tries again what etcd refused:
	// each attempt costs etcd the grant of a lease.
	refusedReads = int(time.Hour / pollInterval)
	// callTimeout bounds a call to etcd, and pageSize the records that one reads.
	callTimeout = 5 * time.Second
	pageSize    = 1000
)

// Options are the optional settings of a [Level].
type Options struct {
	Own    int          // the level that this agent can read; default [discovery.OwnLevel]
	Logger *slog.Logger // default: discard

	// Changed returns a number that changes when etcd has started over, and a channel that is
	// closed when the number may have changed; nil: that is seen at the next read.
	Changed func() (n int, changed <-chan struct{})
}

// Level knows the feature level of a namespace, and raises it. It is safe for concurrent use.
type Level struct {
	client *clientv3.Client
	keys   discovery.Keys
	own    int
	log    *slog.Logger

	restarted func() (n int, changed <-chan struct{})

	poll, check, idle time.Duration
	clean             int

	// Only Run uses these.
	skip    int   // reads before the next check, after etcd refused one
	refused error // why

	level atomic.Int64 // of the namespace, as far as it is known; 0: not yet

	mu     sync.Mutex
	record discovery.LevelRecord // as it was last read; of the zero level: not yet
	err    error                 // why the level could not be read or raised
}

// State is the feature level as an agent knows it.
type State struct {
	Own    int                   // the level that this agent can read
	Record discovery.LevelRecord // its Level is 0 until etcd was read
	Within time.Duration         // about the longest time until the level rises if nothing holds it back; 0: it is not to rise
	Err    error                 // why the level could not be read or raised; nil: it could
}

// New returns a level, of which nothing is known until [Level.Run].
func New(client *clientv3.Client, keys discovery.Keys, o Options) *Level {
	if o.Own == 0 {
		o.Own = discovery.OwnLevel
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() (int, <-chan struct{}) { return 0, nil }
	}
	return &Level{
		client: client, keys: keys, own: o.Own, log: o.Logger, restarted: o.Changed,
		poll: pollInterval, check: checkInterval, idle: idleInterval, clean: cleanChecks,
	}
}

// First returns what the first agent of a namespace writes together with the epoch: a level, unless
// there is one.
func First(keys discovery.Keys, own int) []clientv3.Op {
	value := string(discovery.LevelRecord{Level: own}.Encode())
	return []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(keys.Level()), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(keys.Level(), value)}, nil)}
}

// Allows reports whether all agents of the namespace can read a level, as far as is known. It
// takes no lock.
func (l *Level) Allows(level int) bool { return l.level.Load() >= int64(level) }

// State returns what is known.
func (l *Level) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := State{Own: l.own, Record: l.record, Err: l.err}
	if s.Record.Level > 0 {
		s.Record.Level = int(l.level.Load())
	}
	if s.Record.Level > 0 && s.Record.Level < max(l.own, s.Record.Target) {
		s.Within = time.Duration(max(l.clean-s.Record.Clean, 1)) * (l.check + l.poll)
	}
	return s
}

// Run reads the level, and raises it when that is due, until ctx ends. It then returns nil.
func (l *Level) Run(ctx context.Context) error {
	var backoff retry.Backoff
	for first := true; ; {
		n, changed := l.restarted()
		err := l.refresh(ctx, first)
		l.report(ctx, err)
		wait := l.poll
		if first && err == nil && !l.Allows(l.own) {
			wait = min(wait, soonInterval)
		}
		wait -= rand.N(wait/5 + 1)
		switch {
		case err == nil:
			first = false
			backoff.Reset()
		case !l.lasting(err):
			backoff.Failed()
			wait = min(wait, backoff.Next())
		}
		again := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case <-changed:
				var now int
				now, changed = l.restarted()
				waiting = now == n
			case <-again.C:
				waiting = false
			case <-ctx.Done():
				again.Stop()
				return nil
			}
		}
		again.Stop()
	}
}

// lasting reports whether an error stays until an operator mends its cause.
func (l *Level) lasting(err error) bool {
	return etcd.Refused(err).Final() || errors.Is(err, discovery.ErrInvalid)
}

// report remembers an error, and logs one that a permission causes when it is new.
func (l *Level) report(ctx context.Context, err error) {
	l.mu.Lock()
	before := l.err
	l.err = err
	l.mu.Unlock()
	if err == nil || ctx.Err() != nil || before != nil && before.Error() == err.Error() {
		return
	}
	severity := slog.LevelDebug // etcd is away, which others say
	if l.lasting(err) {
		severity = slog.LevelWarn
	}
	l.log.Log(ctx, severity, "cannot read or raise the feature level of the namespace; agents write only what the level before allows", "feature_level", l.level.Load(), "error", err)
}

// adopt takes over a record that was read or written. The level never falls.
func (l *Level) adopt(r discovery.LevelRecord) {
	l.mu.Lock()
	before := l.record
	l.record = r
	known := l.level.Load()
	if int64(r.Level) > known {
		l.level.Store(int64(r.Level))
	}
	l.mu.Unlock()
	if int64(r.Level) > known && known > 0 {
		l.log.Info("the feature level of the namespace has risen", "feature_level", r.Level, "before", known)
	}
	if r.Level > l.own && before.Level <= l.own {
		l.log.Warn("other agents write what this version of the agent can misread: it is behind the feature level of the namespace; upgrade it",
			"feature_level", r.Level, "own", l.own)
	}
	if len(r.Behind) > 0 && len(before.Behind) == 0 {
		b := r.Behind[0]
		l.log.Warn("an agent is behind the newest feature level; upgrade it, see 'disc status'",
			"feature_level", r.Level, "node", b.Node, "agent", b.Agent, "version", b.Version, "agents", len(r.Behind)+r.More)
	}
}

// stored is the record as etcd has it.
type stored struct {
	discovery.LevelRecord
	revision int64 // 0: there is none
	turn     bool  // somebody has checked lately
}

// refresh reads the record and, unless it is the first time, checks the fleet if that is due.
func (l *Level) refresh(ctx context.Context, first bool) error {
	s, err := l.read(ctx)
	if err != nil {
		return err
	}
	if known := int(l.level.Load()); s.Level < known { // etcd was wiped or restored
		s.LevelRecord = discovery.LevelRecord{Level: known}
		if err := l.write(ctx, &s); err != nil {
			return err
		}
	}
	l.adopt(s.LevelRecord)
	if first || s.turn || s.Level > l.own {
		return nil
	}
	if l.skip > 0 {
		l.skip--
		err = l.refused
	} else if err = l.checkFleet(ctx, s); l.lasting(err) {
		l.skip, l.refused = refusedReads, err
	}
	if s.Level == l.own && l.lasting(err) {
		return nil // it is not to rise for this agent, and others may check
	}
	return err
}

func (l *Level) read(ctx context.Context) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := l.client.Txn(ctx).Then(clientv3.OpGet(l.keys.Level()),
		clientv3.OpGet(l.keys.LevelChecked(), clientv3.WithCountOnly()), clientv3.OpGet(l.keys.Epoch(), clientv3.WithCountOnly())).Commit()
	if err != nil {
		return stored{}, fmt.Errorf("read the feature level: %w", err)
	}
	if r.Responses[2].GetResponseRange().GetCount() == 0 {
		return stored{}, discovery.Errorf(discovery.ErrUnavailable, "there is no epoch yet; the level is read again soon")
	}
	s := stored{LevelRecord: discovery.LevelRecord{Level: discovery.LevelFirst}, turn: r.Responses[1].GetResponseRange().GetCount() > 0}
	for _, kv := range r.Responses[0].GetResponseRange().GetKvs() {
		s.revision = kv.ModRevision
		record, err := discovery.DecodeLevel(kv.Value)
		if err != nil {
			return stored{}, fmt.Errorf("%s: %w; delete the key, and the agents write the level that they know", l.keys.Level(), err)
		}
		s.LevelRecord = record
	}
	return s, nil
}

// write writes the record if nobody has changed it since it was read. If somebody has, the next
// read shows it.
func (l *Level) write(ctx context.Context, s *stored) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := l.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(l.keys.Level()), "=", s.revision)).
		Then(clientv3.OpPut(l.keys.Level(), string(s.Encode()))).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("write the feature level: %w", err)
	case !r.Succeeded:
		return discovery.Errorf(discovery.ErrConflict, "another agent has written the feature level in this moment")
	}
	s.revision = r.Header.Revision
	return nil
}
