package browser_test

import (
	"strconv"
	"testing"

	"disc/discovery/devetcd/etcdtest"
)

// The badge says which member of etcd answers: by its id, and to who has scope status by its address.
func TestBadgeNamesTheMember(t *testing.T) {
	etcd := etcdtest.Start(t)
	got := etcdtest.Must(etcdtest.Client(t, etcd.Endpoint()).Get(t.Context(), "key"))
	a := startAgent(t, etcd.Endpoint(), withTokens())
	b := openTab(t)
	b.open(a.url(""))
	b.sees(freshness, "etcd "+strconv.FormatUint(got.Header.MemberId, 16))
	b.sees(freshness, "lease ")
	b.click("button", "Token")
	b.replace("dialog input[name=token]", opsToken)
	b.click("dialog button", "Use the token")
	b.sees(freshness, "etcd "+etcd.Endpoint())
	b.sees("main", "watched at "+etcd.Endpoint()+", the lease is renewed at "+etcd.Endpoint())
}
