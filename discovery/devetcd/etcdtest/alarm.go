package etcdtest

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// RaiseNoSpace raises the alarm that etcd raises when its quota is used up. From then on etcd
// refuses all writes but deletions.
func RaiseNoSpace(t testing.TB, c *clientv3.Client) {
	t.Helper()
	_, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		t.Fatal(err)
	}
}
