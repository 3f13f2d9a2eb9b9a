package etcdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Member is one process of a cluster. Clients and the other members reach it over links
// that a test can break.
type Member struct {
	Name string

	process
	cluster      *Cluster
	client, peer string // the addresses that the process listens on
	clients      *Link
	peers        *peerLink
	dir          string
	direct       *clientv3.Client // bypasses the link
	id           string           // etcd's id of the member, in hexadecimal
}

func newMember(c *Cluster, name string) *Member {
	m := &Member{Name: name, process: process{t: c.t, name: "etcd's member " + name}, cluster: c, client: Address(c.t), peer: Address(c.t), dir: filepath.Join(c.t.TempDir(), name)}
	m.clients, m.peers, m.direct = StartLink(c.t, m.client), startPeerLink(c.t, m.peer), Client(c.t, m.client)
	return m
}

// Endpoint returns the address where clients reach the member, host:port.
func (m *Member) Endpoint() string { return m.clients.Endpoint() }

// Start starts the process on the member's data, unless it runs. It does not wait until
// the member serves, see Await.
func (m *Member) Start() {
	m.t.Helper()
	m.start(m.cluster.program, slices.Concat([]string{"--name", m.Name, "--data-dir", m.dir, "--log-level", "error",
		"--listen-client-urls", "http://" + m.client, "--advertise-client-urls", "http://" + m.Endpoint(),
		"--listen-peer-urls", "http://" + m.peer, "--initial-advertise-peer-urls", "http://" + m.peers.Endpoint(),
		"--initial-cluster", m.cluster.initial, "--initial-cluster-token", m.cluster.token}, m.cluster.flags)...)
}

// Await waits until the member serves and knows a leader.
func (m *Member) Await() {
	m.t.Helper()
	await(m.t, m.name, func(ctx context.Context) error {
		s, err := m.status(ctx)
		if err != nil {
			return err
		}
		m.id = fmt.Sprintf("%x", s.Header.MemberId)
		if s.Leader == 0 {
			return errors.New("it has no leader")
		}
		return nil
	})
}

// status asks the member for its status, bypassing the link.
func (m *Member) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return m.direct.Status(ctx, m.client)
}

// Wipe removes the member's data. The member must be killed before.
func (m *Member) Wipe() {
	if err := os.RemoveAll(m.dir); err != nil {
		m.t.Fatal(err)
	}
}

// Vanish cuts the member off from clients and members until Return. Connections stay
// open, and nothing passes.
func (m *Member) Vanish() {
	m.clients.Freeze()
	m.Part()
}

// Return undoes Vanish.
func (m *Member) Return() {
	m.clients.Mend()
	m.Join()
}

// Disconnect closes the connections of the member's clients. They can reconnect at once.
func (m *Member) Disconnect() { m.clients.Cut() }

// Part cuts the member off from the other members until Join. Clients still reach it.
func (m *Member) Part() {
	m.peers.freezeAll()
	for _, other := range m.cluster.Members {
		if other != m {
			other.peers.freeze(m.id)
		}
	}
}

// Join undoes Part.
func (m *Member) Join() {
	m.peers.mendAll()
	for _, other := range m.cluster.Members {
		other.peers.mend(m.id)
	}
}

// SlowDisk delays each sync of the member's disk until mend is called or the test ends.
// It skips the test if strace is missing or cannot attach to the member.
func (m *Member) SlowDisk(delay time.Duration) (mend func()) {
	t := m.t
	t.Helper()
	trace := exec.Command("strace", "-f", "-q", "-e", "trace=fdatasync", "-o", filepath.Join(t.TempDir(), "strace"),
		"-e", fmt.Sprintf("inject=fdatasync:delay_enter=%d", delay.Microseconds()), "-p", fmt.Sprint(m.Pid()))
	var output bytes.Buffer
	trace.Stderr = &output
	if err := trace.Start(); err != nil {
		t.Skip("needs strace (apt-get install strace): ", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		trace.Wait()
	}()
	mend = func() {
		trace.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	t.Cleanup(mend)
	awaitTracer(t, m.Pid(), ended, &output)
	return mend
}

// awaitTracer waits until strace traces a process. It skips the test if strace ends.
func awaitTracer(t testing.TB, pid int, ended <-chan struct{}, output *bytes.Buffer) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			t.Skipf("strace cannot attach to etcd: %s", output)
		default:
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(status), "TracerPid:") && !strings.Contains(string(status), "TracerPid:\t0\n") {
			return
		}
	}
	t.Fatal("strace has not attached to etcd")
}
