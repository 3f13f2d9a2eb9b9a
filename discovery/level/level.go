package level

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
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
	// countingFor is the time after a check in which the next must come: else the count of clean ones
	// begins again. It is longer than checkInterval and pollInterval together, so that one may fail.
	countingFor = 30 * time.Minute
	// settleTime is the least time from a new life of etcd to the next read: all agents see it in
	// one moment. The longest is six times that.
	settleTime = 5 * time.Second
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

	poll, check, idle, settle time.Duration
	clean                     int

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
		poll: pollInterval, check: checkInterval, idle: idleInterval, settle: settleTime, clean: cleanChecks,
	}
}

// First returns what the first agent of a namespace writes together with the epoch: a level, unless
// there is one, or the record of an agent, which may be an older one.
func First(keys discovery.Keys, own int) []clientv3.Op {
	value := string(discovery.LevelRecord{Level: own}.Encode())
	return []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(keys.Level()), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(keys.Nodes()), "=", 0).WithPrefix(), // true of no keys
	}, []clientv3.Op{clientv3.OpPut(keys.Level(), value)}, nil)}
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
	n, changed := l.restarted()
	for first := true; ; {
		err := l.refresh(ctx, first)
		l.report(ctx, err)
		again := time.NewTimer(l.wait(first, err, &backoff))
		first = first && err != nil
		for waiting := true; waiting; {
			select {
			case <-changed:
				before := n
				if n, changed = l.restarted(); n != before {
					first = true
					again.Reset(l.settle + rand.N(5*l.settle+1))
				}
			case <-again.C:
				waiting = false
			case <-ctx.Done():
				again.Stop()
				return nil
			}
		}
	}
}

// wait returns the time from a refresh, which had an error, to the next.
func (l *Level) wait(first bool, err error, backoff *retry.Backoff) time.Duration {
	wait := l.poll
	if first && err == nil && !l.Allows(l.own) {
		wait = min(wait, soonInterval)
	}
	wait -= rand.N(wait/5 + 1)
	if err == nil {
		backoff.Reset()
	} else if l.level.Load() == 0 && !l.lasting(err) { // it costs a read, and a level is wanted
		backoff.Failed()
		wait = min(wait, backoff.Next())
	}
	return wait
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
}

// stored is the record as etcd has it.
type stored struct {
	discovery.LevelRecord
	revision int64  // 0: there is none
	epoch    string // of etcd
	counting bool   // there was a check in the last countingFor, in this life of etcd

	turn         int   // the level of the agent that has checked lately; 0: none has
	turnRevision int64 // of the turn's key; 0: there is none
}

// refresh reads the record and, unless it is the first time, checks the fleet if that is due.
func (l *Level) refresh(ctx context.Context, first bool) error {
	s, err := l.read(ctx)
	if err != nil {
		return err
	}
	if known := int(l.level.Load()); s.Level < known { // etcd was wiped or restored
		s.LevelRecord = discovery.LevelRecord{Level: known}
		if err := l.write(ctx, &s, nil); err != nil {
			return err
		}
	}
	l.adopt(s.LevelRecord)
	if first || s.turn >= l.own || s.Level > l.own {
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
	r, err := l.client.Txn(ctx).Then(clientv3.OpGet(l.keys.Level()), clientv3.OpGet(l.keys.Epoch()),
		clientv3.OpGet(l.keys.LevelChecked()), clientv3.OpGet(l.keys.LevelCounting())).Commit()
	if err != nil {
		return stored{}, fmt.Errorf("read the feature level: %w", err)
	}
	found := func(n int) []*mvccpb.KeyValue { return r.Responses[n].GetResponseRange().GetKvs() }
	if len(found(1)) == 0 {
		return stored{}, discovery.Errorf(discovery.ErrUnavailable, "there is no epoch yet; the level is read again soon")
	}
	s := stored{LevelRecord: discovery.LevelRecord{Level: discovery.LevelFirst}, epoch: string(found(1)[0].Value)}
	for _, kv := range found(0) {
		s.revision = kv.ModRevision
		record, err := discovery.DecodeLevel(kv.Value)
		if err != nil {
			return stored{}, fmt.Errorf("%s: %w; delete the key, and the agents write the level that they know", l.keys.Level(), err)
		}
		s.LevelRecord = record
	}
	// A copy of a key has no lease, and would stay.
	for _, kv := range found(2) {
		s.turnRevision = kv.ModRevision
		if level, err := strconv.Atoi(string(kv.Value)); err == nil && kv.Lease != 0 {
			s.turn = level
		}
	}
	for _, kv := range found(3) {
		s.counting = kv.Lease != 0 && string(kv.Value) == s.epoch
	}
	return s, nil
}

// write writes the record, and more, if nobody has changed it since it was read, and what else is to
// be unchanged is. If somebody has, the next read shows it.
func (l *Level) write(ctx context.Context, s *stored, unchanged []clientv3.Cmp, more ...clientv3.Op) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	value := s.Encode()
	if len(value) > discovery.MaxLevelRecord {
		return discovery.Errorf(discovery.ErrInvalid, "write the feature level: %s would have %d bytes; at most %d are allowed; delete the key, and the agents write the level that they know", l.keys.Level(), len(value), discovery.MaxLevelRecord)
	}
	unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(l.keys.Level()), "=", s.revision))
	r, err := l.client.Txn(ctx).If(unchanged...).Then(append(more, clientv3.OpPut(l.keys.Level(), string(value)))...).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("write the feature level: %w", err)
	case !r.Succeeded:
		return discovery.Errorf(discovery.ErrConflict, "another agent has written the feature level, or an agent its own record, in this moment; the fleet is checked again in some minutes")
	}
	s.revision = r.Header.Revision
	return nil
}
