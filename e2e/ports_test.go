package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"disc/discovery/devetcd/etcdtest"
)

// ports hands out free ports of 127.0.0.1, each once. They lie below those that the
// kernel gives to connections and to who listens on port 0, so that a port stays free
// until it is used, and while its server is away.
var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

func pickPort() (string, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		if ports.given[port] || !etcdtest.IsFree(fmt.Sprintf("127.0.0.1:%d", port)) {
			continue
		}
		ports.given[port] = true
		return strconv.Itoa(port), nil
	}
	return "", fmt.Errorf("no free port between 20000 and 32000")
}
