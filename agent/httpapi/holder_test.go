package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

func (f *fleet) Hold(ctx context.Context, r discovery.Registration, by Holder) (api.Registered, Hold, error) {
	if f.forced != nil {
		return api.Registered{}, Hold{}, f.forced
	}
	done, err := f.Register(ctx, r)
	if err != nil {
		return api.Registered{}, Hold{}, err
	}
	f.lock.Lock()
	f.holders[r.Service+"/"+r.ID] = by
	f.lock.Unlock()
	return done, Hold{Lost: f.lost, ForcedBy: func() string { return f.forcedBy }, Release: func() {
		select {
		case f.released <- r.Service + "/" + r.ID:
		default: // no test reads it
		}
	}}, nil
}

func (f *fleet) Deregister(_ context.Context, service, id string, by Holder, force bool) (api.Deregistered, error) {
	f.lock.Lock()
	name := service + "/" + id
	if holder, held := f.holders[name]; held && !holder.Owns(by) && !force {
		f.lock.Unlock()
		return api.Deregistered{}, discovery.Errorf(discovery.ErrConflict, "%s is held by %v", name, holder)
	}
	mine, config, away := f.mine[name], f.config[name], f.away
	delete(f.mine, name)
	f.lock.Unlock()
	switch {
	case config:
		return api.Deregistered{}, discovery.Errorf(discovery.ErrForbidden, "%s comes from the config file; remove it there and reload", name)
	case !mine:
		return api.Deregistered{}, discovery.Errorf(discovery.ErrNotFound, "%s is not registered through this agent", name)
	case away:
		return api.Deregistered{}, nil
	}
	return api.Deregistered{Revision: f.delete(service, id), Written: true}, nil
}

func (f *fleet) ReportLoad(_ context.Context, service, id string, load discovery.LoadReport) error {
	if !f.Owns(service, id) {
		return discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent", service, id)
	}
	f.update(func() { f.reports = append(f.reports, fmt.Sprintf("%s/%s %v", service, id, *load.Utilization)) })
	return nil
}

// A holder learns who has deregistered its instance by force.
func TestForceTellsTheHolder(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	held, err := s.Hold(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	f.forcedBy = "two at 10.0.0.2:1"
	close(f.lost)
	if err := held.Wait(); !errors.Is(err, discovery.ErrLost) || err.Error() != "deregistered by force, by two at 10.0.0.2:1" {
		t.Errorf("wait: %v", err)
	}
}

// The client that holds an instance may deregister it, and others only by force.
func TestHolderDeregisters(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	instance := discovery.Registration{Service: "web", ID: "web-1", Port: 8080}
	hold := func() {
		t.Helper()
		held, err := s.Hold(t.Context(), instance)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(held.Close)
	}
	hold()
	if done, err := s.Deregister(t.Context(), "web", "web-1"); err != nil || !done.Written {
		t.Errorf("by its holder: %+v, %v", done, err)
	}
	hold()
	s.do("DELETE /v1/services/web/instances/web-1", "").want(t, 409, " is held by ", fmt.Sprintf(":%d at 127.0.0.1:", os.Getpid()))
	s.do("DELETE /v1/services/web/instances/web-1", "", "Disc-Holder: two").want(t, 409, " is held by ")
	s.do("DELETE /v1/services/web/instances/web-1", "", "Disc-Holder: t\xc3\xbc").want(t, 400, "visible ASCII")
	s.do("DELETE /v1/services/web/instances/web-1?force", "").want(t, 200)
}

// A holder that gives no name gets one. A Go client of version 0.1.0 gives none and needs none.
func TestHolderWithoutAName(t *testing.T) {
	for agent, named := range map[string]bool{"curl/8.5.0": true, "": true, "Go-http-client/1.1": false} {
		t.Run(agent, func(t *testing.T) {
			f := newFleet()
			s := serve(t, f.api(t, Options{}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "PUT", s.BaseURL+"/v1/services/web/instances/web-1?hold", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", agent)
			resp, err := s.HTTP.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			name, from := resp.Header.Get(api.HeaderHolder), f.holders["web/web-1"].From
			if (name != "") != named || agent != "" && !strings.HasSuffix(from, " ("+agent+")") {
				t.Errorf("is named %q, from %q", name, from)
			}
			s.do("DELETE /v1/services/web/instances/web-1", "", "User-Agent: wget").want(t, 409, from)
			s.do("DELETE /v1/services/web/instances/web-1", "", "User-Agent: "+agent, api.HeaderHolder+": "+name).want(t, 200)
		})
	}
}

// A holder that holds again what was taken from it by force is refused, and its client knows why.
func TestForcedOutHolderIsRefused(t *testing.T) {
	f := newFleet()
	f.forced = &ForcedOutError{Service: "web", ID: "web-1", By: "two at 10.0.0.2:1", Until: time.Unix(0, 0)}
	s := serve(t, f.api(t, Options{}))
	s.do("PUT /v1/services/web/instances/web-1?hold", "{}").want(t, 409,
		"web/web-1 was deregistered by force, by two at 10.0.0.2:1; a caller with another Disc-Holder may hold it now, and this holder after 1970-01-01T00:00:00Z")
	_, err := s.Hold(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 8080})
	if !errors.Is(err, discovery.ErrLost) || err.Error() != "deregistered by force, by two at 10.0.0.2:1" {
		t.Errorf("hold: %v", err)
	}
}

// A Go client that gives no name deregisters only what one of the same host and of the same token or
// certificate holds.
func TestUnnamedHolders(t *testing.T) {
	holder := func(address, by, name, agent string) Holder {
		t.Helper()
		r := httptest.NewRequest("DELETE", "/", nil)
		r.RemoteAddr = address
		r.Header.Set("User-Agent", agent)
		h, err := holderOf(request{Request: r, caller: access.Caller{By: by, Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	const goClient = "Go-http-client/1.1"
	first := holder("10.0.0.1:1", "token", "a", goClient)
	for name, tt := range map[string]struct {
		other Holder
		owns  bool
	}{
		"of the same host":         {holder("10.0.0.1:2", "token", "a", goClient), true},
		"mapped into IPv6":         {holder("[::ffff:10.0.0.1]:2", "token", "a", goClient), true},
		"of another host":          {holder("10.0.0.2:1", "token", "a", goClient), false},
		"with another token":       {holder("10.0.0.1:2", "token", "b", goClient), false},
		"with a certificate":       {holder("10.0.0.1:2", "certificate", "a", goClient), false},
		"that is no client in Go":  {holder("10.0.0.1:2", "token", "a", "curl/8.5.0"), false},
		"of loopback, not of that": {holder("127.0.0.1:1", "token", "a", goClient), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := first.Owns(tt.other); got != tt.owns {
				t.Errorf("%+v owns what %+v holds: %v, want %v", tt.other, first, got, tt.owns)
			}
		})
	}
	if !holder("127.0.0.1:1", "", "", goClient).Owns(holder("[::1]:1", "", "", goClient)) {
		t.Error("another address of loopback is another host")
	}
}

// A name proves its holder: nobody sees more of it than the program and its process id.
func TestHolderIsShownWithoutItsProof(t *testing.T) {
	for id, want := range map[string]string{
		"run:4711:ABCDEFGH":  "run:4711 at 10.0.0.1:1",
		"a:b:4711:ABCDEFGH":  "a:b:4711 at 10.0.0.1:1",
		"secret":             "10.0.0.1:1",
		"secret:more:secret": "10.0.0.1:1",
		"4711:secret":        "10.0.0.1:1",
		":4711:secret":       "10.0.0.1:1",
		"":                   "10.0.0.1:1",
	} {
		t.Run(id, func(t *testing.T) {
			if got := (Holder{ID: id, From: "10.0.0.1:1"}).String(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// The path that a caller binds its Unix socket to is shown as such, and in visible ASCII.
func TestHolderOnAUnixSocket(t *testing.T) {
	f := newFleet()
	s := serveUnix(t, f.api(t, Options{}))
	for path, want := range map[string]string{
		"":                      "a Unix socket",
		"10.0.0.1:1\nt\u00fc\"": `a Unix socket ("10.0.0.1:1?t?\"")`,
	} {
		t.Run(path, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var d net.Dialer
			if path != "" {
				d.LocalAddr = &net.UnixAddr{Name: path, Net: "unix"}
			}
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, "unix", s.address)
			}}}
			req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://localhost/v1/services/web/instances/web-1?hold", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", "")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := f.holders["web/web-1"].From; got != want {
				t.Errorf("is from %s, want %s", got, want)
			}
		})
	}
}
