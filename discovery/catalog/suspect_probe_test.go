package catalog

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A probe that fails tells that a suspect is dead, and one that a pause of this host has cut off tells
// nothing.
func TestProbesOfAPausedHost(t *testing.T) {
	for took, want := range map[time.Duration]bool{0: true, probeTimeout: true, 15 * time.Second: false} {
		t.Run(took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProber(func(context.Context, string) error {
					time.Sleep(took)
					return errors.New("no answer")
				})
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					p.probeOne(t.Context(), target{instanceKey: instanceKey{"web", "web-1"}})
				}()
				failed := false
				select {
				case <-p.failed:
					failed = true
				case <-ended:
				}
				if <-ended; failed != want {
					t.Errorf("it failed: %v, want %v", failed, want)
				}
			})
		})
	}
}
