package lazymetrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/devetcd/etcdtest"
)

func TestRegistersWhenAnEtcdStarts(t *testing.T) {
	if n := etcdMetrics(t); n > 0 {
		t.Errorf("%d metrics of etcd are registered whenever the program starts", n)
	}
	for range 2 {
		etcdtest.Start(t)
		if n := etcdMetrics(t); n < 50 {
			t.Errorf("%d metrics of a running etcd are registered", n)
		}
	}
}

// etcdMetrics counts the metrics of etcd in the default registry.
func etcdMetrics(t *testing.T) (n int) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "etcd_") {
			n++
		}
	}
	return n
}
