package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/agent/httpapi/fastpath"
)

// The limits of a server.
const (
	MaxConnections = 4096             // at once, on each listener; see LimitListener
	MaxHeader      = 16 << 10         // bytes of a request's header
	headerTime     = 10 * time.Second // for a header to come in
	idleTime       = 2 * time.Minute  // between two requests
	pingTime       = 30 * time.Second // of silence before the server pings an HTTP/2 connection
	shutdownTime   = 5 * time.Second  // for the requests under way when the server ends
)

// NewServer returns a server of the API with its limits set. Its Shutdown makes
// blocking queries answer, and ends watches and held registrations. The caller limits
// its listeners with [LimitListener].
func (a *API) NewServer() *http.Server {
	s := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: headerTime,
		WriteTimeout:      a.timeouts.write, // a handler that takes longer extends it; see API.extend
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    MaxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          MaxStreams,
			MaxReceiveBufferPerStream:     streamBuffer,
			MaxReceiveBufferPerConnection: connectionBuffer,
			SendPingTimeout:               pingTime,
			WriteByteTimeout:              a.timeouts.write,
		},
		ConnState:   noteState,
		ConnContext: withConnection,
		ErrorLog:    slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(a.EndStreams)
	return s
}

// Serve answers the requests that come in on a listener, which the caller limits with
// [LimitListener], until ctx ends. Then it lets the requests under way finish, for 5 s
// at most, and closes the listener. It returns nil when ctx ended it.
func (a *API) Serve(ctx context.Context, l net.Listener) error {
	s := a.NewServer()
	timeouts := fastpath.Timeouts{ReadHeader: s.ReadHeaderTimeout, Idle: s.IdleTimeout, Write: s.WriteTimeout}
	fast := fastpath.NewListener(l, plainAnswerer{a}, timeouts, a.log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { fast.Run(); return nil })
	group.Go(func() error {
		if err := s.Serve(fast); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		err := s.Shutdown(limit)
		fast.Wait(limit)
		if err != nil {
			return s.Close()
		}
		return nil
	})
	return group.Wait()
}
