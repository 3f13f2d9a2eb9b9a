package limit

import (
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/lease"
	"disc/discovery/reflector"
)

// newsInterval is the least time between two confirmations that purchasers are told of.
const newsInterval = time.Second

// store passes the reflector's changes to the policies and the purchasers. It is a
// [reflector.Store].
type store struct {
	limits     *Limits
	markListed func()
	unhealthy  atomic.Bool
	toldAt     atomic.Int64 // when the purchasers were last told that their view is current
	confirmed  atomic.Int64 // uptime at which etcd had nothing newer
}

// isPolicies reports whether a range is that of the policies. All others are of a ledger.
func (s *store) isPolicies(r reflector.Range) bool { return r.From == s.limits.keys.Limits() }

// ledgerOf returns the purchaser that a ledger's key belongs to; nil: it was removed.
func (s *store) ledgerOf(key string) *purchaser {
	name, ok := strings.CutPrefix(key, s.limits.keys.Ledger(""))
	if !ok {
		return nil
	}
	return (*s.limits.purchasers.Load())[name]
}

// Known implements [reflector.Store].
func (s *store) Known(r reflector.Range) iter.Seq2[string, int64] {
	known := map[string]int64{}
	if s.isPolicies(r) {
		s.limits.mu.Lock()
		defer s.limits.mu.Unlock()
		for name, p := range s.limits.policies {
			known[s.limits.keys.Limit(name)] = p.Revision
		}
	} else if p := s.ledgerOf(r.From); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if at := p.account.ledger.modRevision; at != 0 {
			known[r.From] = at
		}
	}
	return func(yield func(string, int64) bool) {
		for key, revision := range known {
			if !yield(key, revision) {
				return
			}
		}
	}
}

// Replace implements [reflector.Store].
func (s *store) Replace(l *reflector.Listing) error {
	var found []*mvccpb.KeyValue
	revision, err := l.Read(func(page []*mvccpb.KeyValue) { found = append(found, page...) })
	if err != nil {
		return err
	}
	if s.isPolicies(l.Range) {
		s.replacePolicies(found, revision, l.StartedOver)
		return nil
	}
	if p := s.ledgerOf(l.From); p != nil {
		p.update(func(now time.Duration) {
			p.account.replaceLedger(now, l.Epoch, l.StartedOver, ledgerIn(found))
		})
	}
	return nil
}

// ledgerIn returns the ledger of a list that has it or not.
func ledgerIn(found []*mvccpb.KeyValue) storedLedger {
	for _, kv := range found {
		return decodeLedger(kv.Value, kv.CreateRevision, kv.ModRevision)
	}
	return storedLedger{}
}

// replacePolicies replaces all policies by those of a list.
func (s *store) replacePolicies(found []*mvccpb.KeyValue, revision int64, startedOver bool) {
	l := s.limits
	policies := map[string]Policy{}
	for _, kv := range found {
		p := l.policyOf(kv)
		policies[p.Name] = p
	}
	l.mu.Lock()
	l.policies = policies
	if startedOver {
		clear(l.remembered)
		clear(l.missing)
	}
	l.mu.Unlock()
	for name, p := range *l.purchasers.Load() {
		policy, ok := policies[name]
		if !ok {
			policy = Policy{Name: name, Revision: revision}
		}
		p.update(func(now time.Duration) {
			if startedOver {
				p.account.forgetPolicy()
			}
			p.account.setPolicy(now, policy)
		})
	}
	s.markListed()
}

// Apply implements [reflector.Store].
func (s *store) Apply(u reflector.Update) {
	// The monotonic clock stands still while the host is suspended, and the wall clock may be
	// set: the longer time counts.
	age := max(time.Since(u.Confirmed), time.Since(u.Confirmed.Round(0)))
	s.confirmed.Store(int64(lease.Uptime() - age))
	for _, e := range u.Events {
		name, isPolicy := strings.CutPrefix(string(e.Kv.Key), s.limits.keys.Limits())
		switch isPut := e.Type == clientv3.EventTypePut; {
		case isPolicy && isPut:
			s.limits.applyPolicy(s.limits.policyOf(e.Kv))
		case isPolicy:
			s.limits.applyPolicy(Policy{Name: name, Revision: e.Kv.ModRevision})
		default:
			s.applyLedger(e.Kv, isPut)
		}
	}
}

// confirmedAt returns a time at which etcd had nothing newer than the store.
func (s *store) confirmedAt() time.Duration { return time.Duration(s.confirmed.Load()) }

func (s *store) applyLedger(kv *mvccpb.KeyValue, exists bool) {
	p := s.ledgerOf(string(kv.Key))
	if p == nil {
		return
	}
	var v storedLedger
	if exists {
		v = decodeLedger(kv.Value, kv.CreateRevision, kv.ModRevision)
	}
	p.update(func(now time.Duration) { p.account.setLedger(now, v) })
}

// onHealth makes the views of all purchasers stale when the watch fails, and confirms them
// while it is healthy (err is nil), at most once in newsInterval.
func (s *store) onHealth(err error) {
	now := lease.Uptime()
	before := s.unhealthy.Swap(err != nil)
	if err == nil && !before && now-time.Duration(s.toldAt.Load()) < newsInterval {
		return
	}
	s.toldAt.Store(int64(now))
	for _, p := range *s.limits.purchasers.Load() {
		if err != nil {
			p.update(func(now time.Duration) { p.account.markStale(now, err) })
			p.markDecidable()
			continue
		}
		p.update(func(now time.Duration) {
			if p.loaded {
				p.account.confirm(now, s.confirmedAt(), s.limits.freshFor())
			}
		})
	}
}
