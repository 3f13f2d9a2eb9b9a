// Package nometrics keeps the metrics of an etcd that is linked into the program out of
// Prometheus's default registry. It is imported for that alone, beside that etcd.
//
// etcd registers some 80 metrics there while its packages are initialised, each by way
// of a goroutine: in every command of the program, few of which start an etcd. That was
// a fifth of the whole time of 'disc list', and nobody reads that registry: an agent has
// one of its own.
//
// Packages are initialised in the order of their import paths, each as soon as those
// that it imports are, says the Go specification. So this one, which imports Prometheus
// only, comes before all whose path begins with go.etcd.io.
package nometrics

import "github.com/prometheus/client_golang/prometheus"

func init() { prometheus.DefaultRegisterer = prometheus.WrapRegistererWith(nil, nil) }
