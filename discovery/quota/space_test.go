package quota

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestVerdict(t *testing.T) {
	nospace := (&pb.AlarmMember{MemberID: 7, Alarm: pb.AlarmType_NOSPACE}).String()
	corrupt := (&pb.AlarmMember{MemberID: 7, Alarm: pb.AlarmType_CORRUPT}).String()
	for _, test := range []struct {
		name   string
		status *pb.StatusResponse
		quota  discovery.Bytes
		says   string // "": there is space
	}{
		{"below", &pb.StatusResponse{DbSize: 799 << 20}, 1000 << 20, ""},
		{"at the threshold", &pb.StatusResponse{DbSize: 800 << 20, DbSizeInUse: 300 << 20}, 1000 << 20, "800MiB of its quota of 1000MiB, 300MiB of that in use"},
		{"the quota is not known", &pb.StatusResponse{DbSize: 1 << 50}, 0, ""},
		{"etcd has no quota", &pb.StatusResponse{DbSize: 1 << 50}, -1, ""},
		{"alarm", &pb.StatusResponse{DbSize: 1, Errors: []string{nospace}}, 1000 << 20, "alarm disarm"},
		{"alarm of an etcd whose quota is not known", &pb.StatusResponse{DbSize: 1, Errors: []string{nospace}}, 0, "alarm disarm"},
		{"another alarm", &pb.StatusResponse{DbSize: 1, Errors: []string{corrupt}}, 1000 << 20, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := verdict(test.status, test.quota)
			if (err != nil) != (test.says != "") || err != nil && (!errors.Is(err, discovery.ErrStorageFull) || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}

// startFull starts an etcd with a quota, in bytes, and returns what fills it.
func startFull(t *testing.T, quota int64) (*devetcd.Server, *clientv3.Client) {
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.QuotaBackendBytes = quota }})
	return s, etcdtest.Client(t, s.Endpoint())
}

// Writes are refused from 80 % of the quota on, before etcd refuses any, and are made again
// after a compaction and a defragmentation.
func TestSpaceFillsAndEmpties(t *testing.T) {
	t.Parallel()
	s, client := startFull(t, 64<<20)
	space := NewSpace(client, 0)
	value := strings.Repeat("x", 16<<10)
	var full error
	for n := 0; full == nil; n++ {
		if full = space.Check(t.Context(), len(value)); full != nil {
			break
		}
		if _, err := client.Put(t.Context(), fmt.Sprint("k", n), value); err != nil {
			t.Fatalf("etcd refuses write %d itself: %v", n, err)
		}
	}
	status := etcdtest.Must(client.Status(t.Context(), s.Endpoint()))
	if size := status.DbSize; !errors.Is(full, discovery.ErrStorageFull) || size < 51<<20 {
		t.Errorf("at %d bytes: %v", size, full)
	}
	gone := etcdtest.Must(client.Delete(t.Context(), "k", clientv3.WithPrefix()))
	etcdtest.Must(client.Compact(t.Context(), gone.Header.Revision, clientv3.WithCompactPhysical()))
	etcdtest.Must(client.Defragment(t.Context(), s.Endpoint()))
	retrytest.Eventually(t, "there is space again", func() bool { return space.Check(t.Context(), 1) == nil })
}

// A quota that etcd does not say is taken from the settings, and one that it says is not.
func TestAssumedQuota(t *testing.T) {
	t.Parallel()
	_, client := startFull(t, 256<<20)
	said := NewSpace(client, 1)
	if err := said.Check(t.Context(), 1); err != nil || said.quota != 256<<20 {
		t.Errorf("%v, quota %v", err, said.quota)
	}
	old := NewSpace(client, 1)
	old.note(&pb.StatusResponse{DbSize: 1})
	if err := old.Check(t.Context(), 1); !errors.Is(err, discovery.ErrStorageFull) {
		t.Errorf("%v, quota %v", err, old.quota)
	}
}

// etcd is asked at the first check, and then neither for each check nor for ever the same.
func TestSpaceAsksRarely(t *testing.T) {
	t.Parallel()
	_, client := startFull(t, 256<<20)
	space := NewSpace(client, 0)
	asked := func(size int) bool {
		t.Helper()
		before := space.asked
		if err := space.Check(t.Context(), size); err != nil {
			t.Fatal(err)
		}
		return !space.asked.Equal(before)
	}
	if !asked(1) {
		t.Error("the first check does not ask")
	}
	for range 100 {
		if asked(1) {
			t.Fatal("a further check asks")
		}
	}
	if !asked(2 << 20) {
		t.Error("after the 256th part of the quota nobody asks")
	}
	space.asked = space.asked.Add(-askInterval)
	if !asked(1) {
		t.Error("after the interval nobody asks")
	}
}

// While etcd is away the last answer stays, and checks do not wait again and again. A caller
// that hangs up does not hide the answer.
func TestSpaceWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	space := NewSpace(etcdtest.Client(t, "127.0.0.1:1"), 0)
	for range 2 {
		before := space.asked
		if err := space.Check(t.Context(), 1); err != nil || !before.IsZero() && !space.asked.Equal(before) {
			t.Errorf("%v, asked again: %v", err, !space.asked.Equal(before))
		}
	}
	space.full, space.asked = discovery.ErrStorageFull, time.Now().Add(-askInterval)
	if err := space.Check(t.Context(), 1); err != discovery.ErrStorageFull {
		t.Errorf("%v", err)
	}
	_, client := startFull(t, 256<<20)
	space = NewSpace(client, 0)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := space.Check(gone, 1); err != nil || space.quota == 0 {
		t.Errorf("%v, quota %v", err, space.quota)
	}
	if err := (*Space)(nil).Check(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
