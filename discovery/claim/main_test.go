package claim

import (
	"testing"

	"go.uber.org/goleak"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock/locktest"
)

func TestMain(m *testing.M) {
	// An embedded member of a cluster leaves its connections to its peers idle.
	etcdtest.Main(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

var keys = locktest.Keys()
