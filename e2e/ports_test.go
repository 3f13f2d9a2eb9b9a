package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"disc/discovery/devetcd/etcdtest"
)

// ports has the ports of 127.0.0.1 that pickPort has returned; it returns none twice. They are
// below the kernel's ephemeral ports (connections, and listeners on port 0), so that a port
// stays free until its server starts, and while the server is stopped.
var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

// pickPort returns a free port of 127.0.0.1.
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
	return "", errors.New("find a free port: none between 20000 and 32000")
}
