package httpapi

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

const (
	plainRequest  = "GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n"
	healthRequest = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
)

// A client that asks now and then on one connection keeps it, while others come that do nothing.
func TestBusyConnectionsStay(t *testing.T) {
	for name, request := range map[string]string{"plain lookups": plainRequest, "health": healthRequest} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := serveLimitedPipes(t, withWebs(1).api(t, Options{}), 4)
				conn := open()
				r := bufio.NewReader(conn)
				for n := range 40 {
					if got := exchange(t, conn, r, request); got.StatusCode != 200 {
						t.Fatalf("request %d: %s", n, got.Status)
					}
					if n%3 == 0 {
						open()
					}
					time.Sleep(200 * time.Millisecond)
				}
			})
		})
	}
}

// Connections with a short request now and then do not keep a new one out.
func TestConnectionsBetweenRequestsGiveWay(t *testing.T) {
	for name, request := range map[string]string{"plain lookups": plainRequest, "health": healthRequest} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := serveLimitedPipes(t, withWebs(1).api(t, Options{}), 2)
				for range 2 {
					conn := open()
					r := bufio.NewReader(conn)
					exchange(t, conn, r, request)
					go func() {
						for range 20 {
							select {
							case <-time.After(500 * time.Millisecond):
							case <-t.Context().Done():
								return
							}
							if _, err := io.WriteString(conn, request); err != nil {
								return // it gave way
							}
							got, err := http.ReadResponse(r, nil)
							if err != nil {
								return
							}
							_, _ = io.Copy(io.Discard, got.Body)
						}
					}()
				}
				time.Sleep(1300 * time.Millisecond)
				began := time.Now()
				conn := open()
				exchange(t, conn, bufio.NewReader(conn), healthRequest)
				if took := time.Since(began); took > 100*time.Millisecond {
					t.Errorf("a new connection is answered after %v", took)
				}
			})
		})
	}
}
