package level

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
)

// checkFleet takes the turn to check, if nobody else has it, reads the records of all agents, and
// writes what has changed.
func (l *Level) checkFleet(ctx context.Context, s stored) error {
	turn, err := l.takeTurn(ctx, s)
	if err != nil || turn == clientv3.NoLease {
		return err
	}
	agents, revision, err := l.readAgents(ctx)
	if err == nil {
		err = l.writeCheck(ctx, s, agents, revision)
	}
	if err != nil {
		etcd.RevokeUnused(ctx, l.client, turn)
	}
	return err
}

// writeCheck writes what has changed by a check that found these agents at a revision.
func (l *Level) writeCheck(ctx context.Context, s stored, agents []discovery.Node, revision int64) error {
	before := s.LevelRecord
	counted := before
	if !s.counting { // nobody has checked for a while, or it was in another life of etcd
		counted.Clean = 0
	}
	s.LevelRecord = l.after(counted, agents, time.Now().UTC())
	if slices.Equal(before.Encode(), s.Encode()) {
		return nil
	}
	var unchanged []clientv3.Cmp
	var more []clientv3.Op
	var counting clientv3.LeaseID
	switch {
	case s.Level > before.Level:
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(l.keys.Nodes()), "<", revision+1).WithPrefix())
	case s.Clean > 0:
		lease, err := l.client.Grant(ctx, int64(countingFor/time.Second)) // that of the check before ends by itself
		if err != nil {
			return fmt.Errorf("count a check of the feature level: %w", err)
		}
		counting = lease.ID
		more = append(more, clientv3.OpPut(l.keys.LevelCounting(), s.epoch, clientv3.WithLease(counting)))
	}
	if err := l.write(ctx, &s, unchanged, more...); err != nil {
		if counting != clientv3.NoLease {
			etcd.RevokeUnused(ctx, l.client, counting)
		}
		return err
	}
	l.adopt(s.LevelRecord)
	if len(s.Behind) > 0 && len(before.Behind) == 0 {
		b := s.Behind[0]
		l.log.Warn("an agent is behind the newest feature level; upgrade it, see 'disc status'",
			"feature_level", s.Level, "node", b.Node, "agent", b.Agent, "version", b.Version, "agents", len(s.Behind)+s.More)
	}
	return nil
}

// after returns the record after a check that found these agents.
func (l *Level) after(r discovery.LevelRecord, agents []discovery.Node, now time.Time) discovery.LevelRecord {
	lowest, highest := l.own, l.own
	for _, a := range agents {
		lowest, highest = min(lowest, a.ReadableLevel()), max(highest, a.ReadableLevel())
	}
	newer := r.Level == l.own && highest > l.own
	behind, more := l.behind(r.Behind, agents, now, newer)
	r.Behind = behind
	if newer {
		return r // the newer agents know the rest
	}
	r.More = more
	switch {
	case lowest <= r.Level:
		r.Target, r.Clean = 0, 0
		if l.own > r.Level {
			r.Target = l.own
		}
		return r
	case r.Target <= r.Level || lowest < r.Target:
		r.Target = lowest // what was clean for a higher level was so for this one
	}
	if r.Clean++; r.Clean >= l.clean {
		r.Level, r.Target, r.Clean = r.Target, 0, 0
	}
	return r
}

// behind returns the agents below this agent's level: those that are there, and those that were
// there in the last day and are not there with a higher level. more is the number of those that are
// there and left out. Where newer agents check too, those that only they know of stay for a day.
func (l *Level) behind(before []discovery.BehindAgent, agents []discovery.Node, now time.Time, newer bool) (all []discovery.BehindAgent, more int) {
	type name struct{ node, agent string }
	present := make(map[name]bool, len(agents))
	for _, a := range agents {
		present[name{a.Node, a.Agent}] = true
		if a.ReadableLevel() >= l.own {
			continue
		}
		if len(all) == discovery.MaxBehind {
			more++
			continue
		}
		all = append(all, discovery.BehindAgent{Node: a.Node, Agent: a.Agent, Version: a.Version, Level: a.ReadableLevel(), Seen: now})
	}
	for _, b := range before {
		if b.Seen.After(now) {
			b.Seen = now // a clock was ahead
		}
		keep := !present[name{b.Node, b.Agent}]
		if b.Level >= l.own {
			keep = newer
		}
		if keep && len(all) < discovery.MaxBehind && now.Sub(b.Seen) < rememberedFor {
			all = append(all, b)
		}
	}
	return all, more
}

// readAgents returns the records of all agents, and the revision of etcd at which it began to read
// them. One that cannot be read counts as of the first level.
func (l *Level) readAgents(ctx context.Context) (all []discovery.Node, revision int64, err error) {
	from, to := l.keys.Nodes(), clientv3.GetPrefixRangeEnd(l.keys.Nodes())
	for {
		page, err := l.readPage(ctx, from, to)
		if err != nil {
			return nil, 0, fmt.Errorf("read the records of the agents: %w", err)
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			key := l.keys.Parse(string(kv.Key))
			if key.Kind != discovery.KeyNode {
				continue // no agent has written it
			}
			n, err := discovery.DecodeNode(kv.Value)
			if err != nil {
				n = discovery.Node{Version: "unknown: its record cannot be read"}
			}
			n.Node, n.Agent = key.Node, key.ID
			all = append(all, n)
		}
		if !page.More {
			return all, revision, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func (l *Level) readPage(ctx context.Context, from, to string) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(pageSize))
}

// takeTurn returns the lease of this agent's turn to check; none: another agent has it. Nobody else
// of this level or a lower one checks until the lease ends, unless the turn is given back.
func (l *Level) takeTurn(ctx context.Context, s stored) (clientv3.LeaseID, error) {
	interval := l.check
	if s.Level >= l.own {
		interval = l.idle
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	turn, err := etcd.TakeTurn(ctx, l.client, l.keys.LevelChecked(), strconv.Itoa(l.own), s.turnRevision, interval)
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("take the turn to check the feature level: %w", err)
	}
	return turn, nil
}
