package httpapi

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"disc/agent/access"
	"disc/agent/api"
)

// The duration of a CPU profile.
const (
	defaultProfileTime = 30 * time.Second
	maxProfileTime     = 2 * time.Minute
)

func (a *API) profileRoutes() []route {
	return []route{
		{method: "GET", path: "/debug/pprof/profile", params: []string{"seconds"}, scope: access.Operate, handle: a.profileCPU},
		{method: "GET", path: "/debug/pprof/{profile}", params: []string{"debug", "gc"}, scope: access.Operate, handle: a.profile},
	}
}

// authorizeProfile allows profiles to callers with scope operate and, where callers are not told
// apart, over the Unix socket: a profile reveals requests and costs CPU time.
func authorizeProfile(r request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if r.caller.Allows(access.Operate, "") || local != nil && local.Network() == "unix" {
		return nil
	}
	return api.NewProblem(http.StatusForbidden, "profiles need the Unix socket (http.socket), or a token with scope operate (http.tokens); set one of them")
}

// profileCPU answers with a CPU profile over ?seconds=.
func (a *API) profileCPU(w http.ResponseWriter, r request) error {
	if err := authorizeProfile(r); err != nil {
		return err
	}
	seconds, err := number(r.query, "seconds", strconv.Atoi, int(defaultProfileTime.Seconds()))
	d := time.Duration(seconds) * time.Second
	if err != nil || d <= 0 || d > maxProfileTime {
		return invalid("seconds %q is out of range; use 1 to %d", r.query.Get("seconds"), int(maxProfileTime.Seconds()))
	}
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		return api.NewProblem(http.StatusConflict, fmt.Sprintf("%v; try again when it is done", err))
	}
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
	case <-r.Context().Done():
	case <-a.streamsEnded:
	}
	pprof.StopCPUProfile()
	return a.writeProfile(w, b.Bytes(), false)
}

// profile answers with a profile of the runtime, such as heap, allocs or goroutine; with
// ?debug=1 as text.
func (a *API) profile(w http.ResponseWriter, r request) error {
	if err := authorizeProfile(r); err != nil {
		return err
	}
	p := pprof.Lookup(r.PathValue("profile"))
	if p == nil {
		return api.NewProblem(http.StatusNotFound, fmt.Sprintf("there is no profile %q; use profile (of the CPU), %s", r.PathValue("profile"), strings.Join(profileNames(), ", ")))
	}
	debug, err := number(r.query, "debug", strconv.Atoi, 0)
	if err != nil {
		return err
	}
	gc, err := r.query.flag("gc")
	if err != nil {
		return err
	}
	if gc {
		runtime.GC()
	}
	var b bytes.Buffer
	if err := p.WriteTo(&b, debug); err != nil {
		return fmt.Errorf("profile %s: %w", p.Name(), err)
	}
	return a.writeProfile(w, b.Bytes(), debug > 0)
}

// profileNames returns the names of the runtime's profiles, sorted.
func profileNames() []string {
	var names []string
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	return names
}

func (a *API) writeProfile(w http.ResponseWriter, b []byte, text bool) error {
	a.extend(w)
	contentType := "application/octet-stream"
	if text {
		contentType = api.TypeText
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, err := w.Write(b)
	return err
}
