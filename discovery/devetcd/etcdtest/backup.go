package etcdtest

import (
	"context"
	"os/exec"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// Wipe removes all data. All members must be killed before. With the same addresses and the
// same token the next etcd has the same cluster id.
func (c *Cluster) Wipe() {
	for _, m := range c.Members {
		m.Wipe()
	}
}

// Replace removes all data, and makes the members start as another cluster from now on. All
// members must be killed before.
func (c *Cluster) Replace() {
	c.Wipe()
	c.token += "-another"
}

// StartHidden starts the members as Start does. Clients reach them once prepare has returned;
// its own client bypasses the links.
func (c *Cluster) StartHidden(prepare func(direct *clientv3.Client)) {
	c.t.Helper()
	for _, m := range c.Members {
		m.clients.Freeze()
	}
	c.Start()
	prepare(c.Members[0].direct)
	for _, m := range c.Members {
		m.clients.Mend()
	}
}

// CopyData copies the data directory of every member, and returns the folder of the copies.
// All members must be killed before.
func (c *Cluster) CopyData() (dir string) {
	c.t.Helper()
	dir = c.t.TempDir()
	for _, m := range c.Members {
		c.copy(m.dir, filepath.Join(dir, m.Name))
	}
	return dir
}

// PutBack replaces the data directory of every member with that of [Cluster.CopyData]. All
// members must be killed before.
func (c *Cluster) PutBack(dir string) {
	c.t.Helper()
	c.Wipe()
	for _, m := range c.Members {
		c.copy(filepath.Join(dir, m.Name), m.dir)
	}
}

// copy leaves out the zeros of a data directory, which are most of it.
func (c *Cluster) copy(from, to string) {
	c.t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		c.t.Fatalf("cp: %v\n%s", err, out)
	}
}

// Snapshot saves a snapshot, as 'etcdctl snapshot save' does, and returns its file.
func (c *Cluster) Snapshot() (file string) {
	c.t.Helper()
	file = filepath.Join(c.t.TempDir(), "snapshot")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := clientv3.Config{Endpoints: []string{c.Members[0].Endpoint()}}
	if _, err := snapshot.NewV3(zap.NewNop()).Save(ctx, config, file); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// Restore replaces the data of every member with a snapshot, as 'etcdutl snapshot restore'
// does. All members must be killed before; their etcd must be of the version of go.mod. bump
// is added to the revision of the snapshot; unless it is 0, all revisions are marked as
// compacted.
func (c *Cluster) Restore(file string, bump uint64) {
	c.t.Helper()
	c.Wipe()
	for _, m := range c.Members {
		if err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
			SnapshotPath: file, Name: m.Name, OutputDataDir: m.dir, PeerURLs: []string{"http://" + m.peers.Endpoint()},
			InitialCluster: c.initial, InitialClusterToken: c.token, RevisionBump: bump, MarkCompacted: bump > 0,
		}); err != nil {
			c.t.Fatal(err)
		}
	}
}
