package level

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// checkFleet takes the turn to check, if nobody else has it, reads the records of all agents, and
// writes what has changed.
func (l *Level) checkFleet(ctx context.Context, s stored) error {
	turn, err := l.takeTurn(ctx, s.LevelRecord)
	if err != nil || turn == clientv3.NoLease {
		return err
	}
	agents, err := l.readAgents(ctx)
	if err == nil {
		before := s.Encode()
		s.LevelRecord = l.after(s.LevelRecord, agents, time.Now().UTC())
		if slices.Equal(before, s.Encode()) {
			return nil
		}
		err = l.write(ctx, &s)
	}
	if err != nil {
		l.giveTurnBack(ctx, turn)
		return err
	}
	l.adopt(s.LevelRecord)
	return nil
}

// after returns the record after a check that found these agents.
func (l *Level) after(r discovery.LevelRecord, agents []discovery.Node, now time.Time) discovery.LevelRecord {
	lowest, highest := l.own, l.own
	for _, a := range agents {
		lowest, highest = min(lowest, a.ReadableLevel()), max(highest, a.ReadableLevel())
	}
	if r.Level == l.own && highest > l.own {
		return r // the newer agents know who is behind them
	}
	r.Behind, r.More = l.behind(r.Behind, agents, now)
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
// there and left out.
func (l *Level) behind(before []discovery.BehindAgent, agents []discovery.Node, now time.Time) (all []discovery.BehindAgent, more int) {
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
		if len(all) < discovery.MaxBehind && b.Level < l.own && !present[name{b.Node, b.Agent}] && now.Sub(b.Seen) < rememberedFor {
			all = append(all, b)
		}
	}
	return all, more
}

// readAgents returns the records of all agents. One that cannot be read counts as of the first level.
func (l *Level) readAgents(ctx context.Context) ([]discovery.Node, error) {
	var all []discovery.Node
	from, to := l.keys.Nodes(), clientv3.GetPrefixRangeEnd(l.keys.Nodes())
	for {
		page, err := l.readPage(ctx, from, to)
		if err != nil {
			return nil, fmt.Errorf("read the records of the agents: %w", err)
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
			return all, nil
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
// checks until the lease ends, unless the turn is given back.
func (l *Level) takeTurn(ctx context.Context, r discovery.LevelRecord) (clientv3.LeaseID, error) {
	interval := l.check
	if r.Level >= l.own {
		interval = l.idle
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lease, err := l.client.Grant(ctx, int64(interval/time.Second))
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("take the turn to check the feature level: %w", err)
	}
	t, err := l.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(l.keys.LevelChecked()), "=", 0)).
		Then(clientv3.OpPut(l.keys.LevelChecked(), "", clientv3.WithLease(lease.ID))).Commit()
	if err != nil {
		l.giveTurnBack(ctx, lease.ID)
		return clientv3.NoLease, fmt.Errorf("take the turn to check the feature level: %w", err)
	}
	if !t.Succeeded {
		l.giveTurnBack(ctx, lease.ID)
		return clientv3.NoLease, nil
	}
	return lease.ID, nil
}

// giveTurnBack lets another agent check, since this one could not.
func (l *Level) giveTurnBack(ctx context.Context, turn clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	_, _ = l.client.Revoke(ctx, turn) // if that fails, it ends by itself
}
