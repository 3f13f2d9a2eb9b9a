package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/agent/api"
	"disc/config"
	"disc/config/input"
	"disc/discovery/retry"
	"disc/discovery/telemetry"
)

// How often certificates are checked, and how long before their expiry the agent warns.
const (
	certificateInterval = time.Hour
	expiryWarning       = 14 * 24 * time.Hour
)

// reloaded is what is read from files for each handshake, so that renewed files are used without
// a restart. While they cannot be read, the last good content is used.
type reloaded[T any] struct {
	read func(context.Context) (T, error)
	log  *slog.Logger

	mu       sync.Mutex
	lastGood *T
	failures retry.Backoff
}

// newKeyPair returns the server's certificate.
func newKeyPair(files config.TLS, log *slog.Logger) *reloaded[tls.Certificate] {
	return &reloaded[tls.Certificate]{log: log, read: func(ctx context.Context) (tls.Certificate, error) {
		pair, err := files.Load(ctx)
		if err != nil {
			err = fmt.Errorf("read http.tls.cert %s with http.tls.key %s: %w", files.Cert, files.Key, err)
		}
		return pair, err
	}}
}

// newClientCAs returns the CAs that verify client certificates.
func newClientCAs(c config.HTTP, log *slog.Logger) *reloaded[*x509.CertPool] {
	return &reloaded[*x509.CertPool]{log: log, read: func(ctx context.Context) (*x509.CertPool, error) {
		pool, err := c.ClientCAs(ctx)
		if err != nil {
			err = fmt.Errorf("read http.tls.client_ca %s: %w", c.ClientCA, err)
		}
		return pool, err
	}}
}

// load reads the files, or returns the last good content.
func (k *reloaded[T]) load(ctx context.Context) (*T, error) {
	content, err := k.read(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.lastGood = &content
		k.failures.Reset()
		return k.lastGood, nil
	}
	if k.lastGood == nil {
		return nil, err
	}
	if k.failures.Failed() {
		k.log.Warn("cannot read certificates of the HTTP API; using those that were read last", "error", err)
	}
	return k.lastGood, nil
}

// certificates watches the expiry of the certificates that the settings name.
type certificates struct {
	files  []certificateFile
	log    *slog.Logger
	expiry *prometheus.GaugeVec
}

// certificateFile is a PEM file of certificates that a setting names.
type certificateFile struct {
	setting, path string
	isCA          bool // a bundle of CA certificates, not a chain
}

func newCertificates(c *config.Config, metrics prometheus.Registerer, log *slog.Logger) (*certificates, error) {
	w := &certificates{log: log, expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "disc_certificate_expiry_timestamp_seconds",
		Help: "When the certificates that a setting names expire, in seconds since 1970.",
	}, []string{"setting"})}
	if err := telemetry.Register(metrics, w.expiry); err != nil {
		return nil, err
	}
	for _, f := range []certificateFile{
		{"etcd.cacert", c.Etcd.CACert, true}, {"etcd.cert", c.Etcd.Cert, false}, {"http.tls.cert", c.HTTP.TLS.Cert, false}, {"http.tls.client_ca", c.HTTP.ClientCA, true},
	} {
		if f.path != "" {
			w.files = append(w.files, f)
		}
	}
	return w, nil
}

// run checks the certificates now and every hour, until ctx ends.
func (w *certificates) run(ctx context.Context) error {
	if len(w.files) == 0 {
		return nil
	}
	ticker := time.NewTicker(certificateInterval)
	defer ticker.Stop()
	for {
		w.check(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// check updates the metric and warns of certificates that expire soon. Expiry is by the wall
// clock.
func (w *certificates) check(ctx context.Context) {
	for _, f := range w.files {
		expires, err := f.expires(ctx)
		if err != nil {
			w.log.Warn("cannot read a certificate", "setting", f.setting, "error", err)
			continue
		}
		w.expiry.WithLabelValues(f.setting).Set(float64(expires.Unix()))
		if left := time.Until(expires); left < expiryWarning {
			w.log.Warn("a certificate expires soon; renew it, and the agent uses the new one by itself",
				"setting", f.setting, "file", f.path, "expires", expires, "left", left.Round(time.Minute))
		}
	}
}

// status returns the expiry of the certificates that can be read.
func (w *certificates) status(ctx context.Context) []api.Certificate {
	var all []api.Certificate
	for _, f := range w.files {
		if expires, err := f.expires(ctx); err == nil {
			all = append(all, api.Certificate{Setting: f.setting, File: f.path, Expires: expires, Soon: time.Until(expires) < expiryWarning})
		}
	}
	return all
}

// expires returns when the file's certificates expire: a chain with the first of its
// certificates that does, a CA bundle with the last, since it keeps old ones beside the new.
func (f certificateFile) expires(ctx context.Context) (time.Time, error) {
	rest, err := input.ReadFile(ctx, f.path, input.MaxPEM)
	if err != nil {
		return time.Time{}, err
	}
	var end time.Time
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, fmt.Errorf("read %s: %w", f.path, err)
		}
		if end.IsZero() || c.NotAfter.After(end) == f.isCA {
			end = c.NotAfter
		}
	}
	if end.IsZero() {
		return end, fmt.Errorf("read %s: it has no certificate in PEM format", f.path)
	}
	return end.UTC(), nil
}
