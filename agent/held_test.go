package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/agent/httpapi"
	"disc/discovery"
)

// Only its holder may deregister an instance that is held, unless that is forced.
func TestDeregisterWhatIsHeld(t *testing.T) {
	named := httpapi.Holder{ID: "run:7:ABCDEFGH", From: "10.0.0.1:1"}
	old := httpapi.Holder{From: "10.0.0.1:1", Peer: "10.0.0.1", Unnamed: true}
	far := httpapi.Holder{From: "10.0.0.2:1", Peer: "10.0.0.2", Unnamed: true}
	for name, tt := range map[string]struct {
		holder, by httpapi.Holder
		force      bool
		refused    bool
		forcedBy   string
	}{
		"by its holder":                      {holder: named, by: httpapi.Holder{ID: "run:7:ABCDEFGH", From: "10.0.0.1:2"}},
		"by another":                         {holder: named, by: httpapi.Holder{ID: "two", From: "10.0.0.2:1"}, refused: true},
		"by one without a name":              {holder: named, by: httpapi.Holder{From: "10.0.0.2:1"}, refused: true},
		"by an old client":                   {holder: named, by: old, refused: true},
		"of an old client, by an old client": {holder: old, by: old},
		"of an old client, by another":       {holder: old, by: httpapi.Holder{From: "10.0.0.2:1"}, refused: true},
		"of an old client, by a far one":     {holder: old, by: far, refused: true},
		"of an old client, by force":         {holder: old, by: old, force: true, forcedBy: "10.0.0.1:1"},
		"by force":                           {holder: named, by: httpapi.Holder{ID: "two:8:ABCDEFGH", From: "10.0.0.2:1"}, force: true, forcedBy: "two:8 at 10.0.0.2:1"},
		"by force, by its holder":            {holder: named, by: named, force: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := alone(t, t.TempDir())
				_, hold, err := g.Hold(t.Context(), web(), tt.holder)
				if err != nil {
					t.Fatal(err)
				}
				_, err = g.Deregister(t.Context(), "web", "web-1", tt.by, tt.force)
				if refused := errors.Is(err, discovery.ErrConflict); refused != tt.refused || err != nil && !refused {
					t.Fatalf("%v, want refused: %v", err, tt.refused)
				}
				if tt.refused && !strings.Contains(err.Error(), "of "+tt.holder.String()+", since") {
					t.Errorf("%v does not say who holds it", err)
				}
				if tt.refused && strings.Contains(err.Error(), "ABCDEFGH") {
					t.Errorf("%v shows what proves the holder", err)
				}
				wantLost(t, hold, !tt.refused)
				if who := hold.ForcedBy(); who != tt.forcedBy {
					t.Errorf("forced by %q, want %q", who, tt.forcedBy)
				}
				if !tt.refused {
					wantForcedOut(t, g, tt.holder, tt.forcedBy)
					return
				}
				hold.Release()
				if _, err := g.Deregister(t.Context(), "web", "web-1", tt.by, false); err != nil {
					t.Errorf("nobody holds it: %v", err)
				}
			})
		})
	}
}

// wantForcedOut fails the test unless a holder is kept from holding web/web-1 again because of
// somebody, or is not if that is "".
func wantForcedOut(t *testing.T, g *registrar, holder httpapi.Holder, by string) {
	t.Helper()
	_, hold, err := g.Hold(t.Context(), web(), holder)
	if err == nil {
		hold.Release()
	}
	var got string
	if forced, ok := errors.AsType[*httpapi.ForcedOutError](err); ok && errors.Is(err, discovery.ErrConflict) {
		got = forced.By
	}
	if got != by || got == "" && err != nil {
		t.Errorf("hold after it was forced by %q: %v", by, err)
	}
}

// A holder that was forced out is kept out for a while, also if it has lost its connection just
// before. Others may have the instance at once.
func TestForceLasts(t *testing.T) {
	nameless := httpapi.Holder{ID: "made by the agent", Peer: "curl of this host"}
	for name, tt := range map[string]struct {
		holder, again httpapi.Holder
		gone          bool // its connection, before the force
	}{
		"with a name":                     {holder: httpapi.Holder{ID: "one"}, again: httpapi.Holder{ID: "one"}},
		"without a name":                  {holder: nameless, again: httpapi.Holder{ID: "another", Peer: nameless.Peer}},
		"with the name that it was given": {holder: nameless, again: httpapi.Holder{ID: nameless.ID}},
		"that has lost its connection":    {holder: httpapi.Holder{ID: "one"}, again: httpapi.Holder{ID: "one"}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := alone(t, t.TempDir())
				g.start(t)
				_, hold, err := g.Hold(t.Context(), web(), tt.holder)
				if err != nil {
					t.Fatal(err)
				}
				if tt.gone {
					hold.Release()
				}
				by := httpapi.Holder{ID: "two", From: "10.0.0.2:1"}
				if _, err := g.Deregister(t.Context(), "web", "web-1", by, true); err != nil {
					t.Fatal(err)
				}
				hold.Release()
				wantForcedOut(t, g, tt.again, by.From)
				wantForcedOut(t, g, by, "")
				time.Sleep(HoldGrace)
				wantForcedOut(t, g, tt.again, by.From)
				time.Sleep(forcedTime - HoldGrace)
				wantForcedOut(t, g, tt.again, "")
				if len(g.forced) != 0 {
					t.Errorf("remembers %v", g.forced)
				}
			})
		})
	}
}

// What is remembered of force is bounded.
func TestForceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		for range maxForced + 10 {
			g.rememberForced(web(), httpapi.Holder{ID: "one"}, httpapi.Holder{ID: "two"})
		}
		if len(g.forced) != maxForced {
			t.Errorf("remembers %d ends, want %d", len(g.forced), maxForced)
		}
	})
}

// The log says who deregistered a held instance where the caller may not be its holder.
func TestDeregistrationOfAnUnnamedHolderIsLogged(t *testing.T) {
	g := alone(t, t.TempDir())
	var log bytes.Buffer
	g.log = slog.New(slog.NewTextHandler(&log, nil))
	holder := httpapi.Holder{From: "10.0.0.1:1", Peer: "10.0.0.1", Unnamed: true}
	if _, _, err := g.Hold(t.Context(), web(), holder); err != nil {
		t.Fatal(err)
	}
	by := holder
	by.From = "10.0.0.1:2"
	if _, err := g.Deregister(t.Context(), "web", "web-1", by, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "by a caller without a name") || !strings.Contains(log.String(), "holder=10.0.0.1:1 by=10.0.0.1:2") {
		t.Errorf("logs %s", log.String())
	}
}
