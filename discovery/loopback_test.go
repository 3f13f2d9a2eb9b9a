package discovery_test

import (
	"testing"

	"disc/discovery"
)

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "127.0.0.1": true, "127.9.8.7": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.5": false, "localhost.example": false, "127.0.0.1.example": false, "128.0.0.1": false,
	} {
		t.Run(host, func(t *testing.T) {
			if got := discovery.IsLoopback(host); got != want {
				t.Errorf("%v", got)
			}
		})
	}
}
