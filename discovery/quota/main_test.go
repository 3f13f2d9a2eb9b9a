package quota

import (
	"testing"

	"disc/discovery/devetcd/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }
