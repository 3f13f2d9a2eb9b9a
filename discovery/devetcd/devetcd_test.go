package devetcd_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
)

func TestServesAndKeepsData(t *testing.T) {
	dir := t.TempDir()
	for n, want := range []int64{0, 1} {
		s, err := devetcd.Start(t.Context(), devetcd.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		client := etcdtest.Client(t, s.Endpoint())
		got, err := client.Get(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != want {
			t.Errorf("start %d: %d keys, want %d", n, got.Count, want)
		}
		if _, err := client.Put(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTemporaryDataGoes(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := devetcd.Start(t.Context(), devetcd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = devetcd.Start(context.Background(), devetcd.Options{Listen: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v, want an error that names %s", err, l.Addr())
	}
}

func TestRegistersNoMetrics(t *testing.T) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "etcd_") {
			t.Errorf("%s is registered whenever the program starts", f.GetName())
		}
	}
}

func TestStoppedByItself(t *testing.T) {
	s := etcdtest.Start(t)
	s.Etcd.HardStop()
	select {
	case err := <-s.Err():
		if err == nil {
			t.Error("no reason is given")
		}
	case <-time.After(time.Minute):
		t.Error("nobody is told that etcd has stopped")
	}
}
