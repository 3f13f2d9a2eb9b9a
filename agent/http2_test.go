package agent

import (
	"slices"
	"testing"
)

func TestHTTP2IsOfferedByMendedVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"go1.24.13": false, "go1.25.14": false,
		"go1.26": false, "go1.26.0": false, "go1.26rc1": false, "go1.26.8": false, "go1.26.8 X:nodwarf5": false, "go1.26.8-distribution": false,
		"go1.26.9": true, "go1.26.9 X:nodwarf5": true, "go1.26.10": true, "go1.26.9-distribution": true,
		"go1.27rc2": false, "go1.27.0": false, "go1.27.1": false, "go1.27.2": true, "go1.27.3": true,
		"devel go1.27-0a1b2c3 Mon Jun 1 12:00:00 2026 +0000": false,
		"go1.28": true, "go1.28.1": true, "devel go1.28-0a1b2c3 Mon Nov 2 12:00:00 2026 +0000": true, "go1.28-devel_0a1b2c3 Mon": true,
		"go2.0": true, "": false, "devel +0a1b2c3": false, "gccgo 16": false,
	} {
		t.Run(version, func(t *testing.T) {
			if got := http2IsSafe(version); got != want {
				t.Errorf("HTTP/2 of %q is safe: %v, want %v", version, got, want)
			}
			offered := alpn(version)
			if slices.Contains(offered, "h2") != want || !slices.Contains(offered, "http/1.1") {
				t.Errorf("%q offers %v", version, offered)
			}
		})
	}
}
