package limit

import (
	"context"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Usage is how much of a limit is used.
type Usage struct {
	Bought  int64 // tokens that all agents have bought since the limit was made; they let through no more
	Waiting int   // takes that wait for tokens in this process
}

// Usage returns how much of each limit is used, by name: what was bought from etcd, and who waits
// here. A limit whose ledger cannot be read counts as unused.
func (l *Limits) Usage(ctx context.Context) (map[string]Usage, error) {
	prefix := l.keys.Ledger("")
	r, err := l.read(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	all := make(map[string]Usage, len(r.Kvs))
	for _, kv := range r.Kvs {
		all[strings.TrimPrefix(string(kv.Key), prefix)] = Usage{Bought: decodeLedger(kv.Value, kv.CreateRevision, kv.ModRevision).Sold}
	}
	for name, p := range *l.purchasers.Load() {
		if u, ok := all[name]; ok {
			u.Waiting = p.waiting()
			all[name] = u
		}
	}
	return all, nil
}

// waiting returns how many takes wait for tokens.
func (p *purchaser) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.account.queue)
}
