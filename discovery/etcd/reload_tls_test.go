package etcd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/connectivity"

	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// TestServerName expects that a certificate is compared with the name in the TLS settings.
func TestServerName(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler()) // with a certificate for example.com
	s.EnableHTTP2, s.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	for server, want := range map[string]string{
		"":            "localhost; use a name of its certificate in --endpoints, or set etcd.server_name",
		"other.test":  "not other.test; use a name",
		"example.com": "",
	} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			c := dialAs(t, etcd.Config{
				Endpoints: []string{"https://localhost:" + s.URL[strings.LastIndex(s.URL, ":")+1:]},
				TLS: func(context.Context) (*tls.Config, error) {
					return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted, ServerName: server}, nil
				},
			})
			conn := c.ActiveConnection()
			conn.Connect()
			retrytest.Succeeds(t, func() error { // a handshake that takes too long is repeated
				err := etcd.Unreachable(c)
				if ready := conn.GetState() == connectivity.Ready; ready != (want == "") || (err == nil) != ready || err != nil && !strings.Contains(err.Error(), want) {
					return fmt.Errorf("ready %v, got %v, want %q", ready, err, want)
				}
				return nil
			})
		})
	}
}
