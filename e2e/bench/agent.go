package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
)

// etcd starts an etcd and returns it with a client, which is closed with the row.
func (s *stage) etcd() (*process, *clientv3.Client, error) {
	p, endpoint, err := s.start("etcd", nil)
	if err != nil {
		return nil, nil, err
	}
	client, err := connect(endpoint)
	if err != nil {
		return nil, nil, err
	}
	s.onClose(func() { client.Close() })
	return p, client, nil
}

func connect(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
}

// instance returns an instance whose record has about 330 bytes, as agents write it.
func instance(service string, n int) discovery.Instance {
	return discovery.Instance{
		Service: service, ID: fmt.Sprintf("%s-%d", service, n), Node: fmt.Sprintf("host-%d", n),
		Address: fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255), Port: 8080, Zone: "eu-west-1a", Weight: 1,
		Tags: []string{"v2"}, Meta: map[string]string{"Team": "core"}, Status: discovery.Passing,
		Checks: []discovery.CheckStatus{{ID: "http", Type: "http", Status: discovery.Passing}},
		Slots:  1, Owner: fmt.Sprintf("owner-%016x", n), Run: fmt.Sprintf("run-%016x", n), RegisteredAt: time.Unix(1767323045, 0).UTC(),
	}
}

// maxTxnOps is the number of operations that etcd allows in a transaction by default
// (--max-txn-ops).
const maxTxnOps = 128

// serviceSize is the number of instances of each service.
const serviceSize = 10

// fill writes instances to etcd, in services of [serviceSize], which are called web, web-1, web-2
// and so on.
func fill(ctx context.Context, client *clientv3.Client, instances int) error {
	keys := discovery.NewKeys("default")
	return writeAll(ctx, client, instances, func(n int) clientv3.Op {
		i := instance(serviceName(n/serviceSize), n)
		return clientv3.OpPut(keys.Instance(i.Service, i.ID), string(i.Encode()))
	})
}

// writeAll writes op(0) to op(n-1) to etcd, in several transactions at once.
func writeAll(ctx context.Context, client *clientv3.Client, n int, op func(int) clientv3.Op) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for from := 0; from < n; from += maxTxnOps {
		group.Go(func() error {
			var ops []clientv3.Op
			for i := from; i < min(from+maxTxnOps, n); i++ {
				ops = append(ops, op(i))
			}
			_, err := client.Txn(ctx).Then(ops...).Commit()
			return err
		})
	}
	return group.Wait()
}

func serviceName(n int) string {
	if n == 0 {
		return "web"
	}
	return fmt.Sprintf("web-%d", n)
}

// agent is a running agent.
type agent struct {
	*process
	http, dns string // host:port
	socket    string // path
}

// command returns a disc command that uses the etcd at endpoint, with an empty home directory.
func (s *stage) command(endpoint string, args ...string) *exec.Cmd {
	c := exec.Command(s.disc.path, args...)
	c.Env = append(os.Environ(), s.disc.env...)
	c.Env = append(c.Env, "DISC_ENDPOINTS="+endpoint, "HOME="+s.dir, "XDG_STATE_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	return c
}

// agent starts an agent that uses the etcd at endpoint, and waits until it listens.
func (s *stage) agent(endpoint, name string) (*agent, error) {
	a := &agent{socket: filepath.Join(s.dir, name+".sock")}
	file := filepath.Join(s.dir, name+".yaml")
	text := fmt.Sprintf("node: %s\nadvertise: 127.0.0.1\ndata_dir: %s\ndrain_delay: 0s\nhttp: {listen: '127.0.0.1:0', socket: %s}\ndns: {listen: '127.0.0.1:0'}\nlog: {format: json}\n",
		name, filepath.Join(s.dir, name), a.socket)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var err error
	if a.process, err = s.run(s.command(endpoint, "agent", "--config", file), nil); err != nil {
		return nil, err
	}
	line, err := a.await(`"agent is running"`)
	if err != nil {
		return nil, err
	}
	var said struct{ HTTP, DNS string }
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		return nil, fmt.Errorf("parse the agent's log: %w", err)
	}
	a.http, a.dns = said.HTTP, said.DNS
	return a, nil
}

// fleet starts an etcd with instances and an agent, and waits until the agent answers for the
// last service.
func (s *stage) fleet(ctx context.Context, instances int) (*clientv3.Client, *agent, error) {
	_, client, err := s.etcd()
	if err != nil {
		return nil, nil, err
	}
	if err := fill(ctx, client, instances); err != nil {
		return nil, nil, err
	}
	a, err := s.agent(client.Endpoints()[0], "bench")
	if err != nil {
		return nil, nil, err
	}
	last := serviceName((instances - 1) / serviceSize)
	return client, a, await(ctx, func() error { _, err := fetch(a.http, "/v1/lookup/"+last); return err })
}

// await repeats try every 5 ms until it returns nil. After [waitTimeout] it returns the last
// error, and when ctx ends ctx's.
func await(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(waitTimeout)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
