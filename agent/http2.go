package agent

import (
	"go/version"
	"runtime"
	"strings"
)

// http2Mended are the first versions of Go, one for each release that disc can be built with,
// whose HTTP/2 server survives a client that changes SETTINGS_HEADER_TABLE_SIZE (RFC 9113,
// section 6.5.2) while answers are written. In earlier ones two goroutines change one map then,
// which ends the process ("fatal error: concurrent map read and map write"). Releases after the
// last are mended.
var http2Mended = []string{"go1.26.9", "go1.27.2"}

// OffersHTTP2 reports whether agents of this program offer HTTP/2 over http.tls: not if it was
// built with a version of Go that has the fault of [http2Mended].
func OffersHTTP2() bool { return http2IsSafe(runtime.Version()) }

// http2IsSafe reports whether the HTTP/2 server of a version of Go, as runtime.Version has it,
// is free of the fault of [http2Mended]. It reports false for a version that it cannot read.
func http2IsSafe(goVersion string) bool {
	v, _, _ := strings.Cut(strings.TrimPrefix(goVersion, "devel "), " ")
	if !version.IsValid(v) {
		return false
	}
	for _, mended := range http2Mended {
		if version.Lang(v) == version.Lang(mended) {
			return version.Compare(v, mended) >= 0
		}
	}
	return version.Compare(v, http2Mended[len(http2Mended)-1]) > 0
}

// alpn returns the protocols to offer over TLS (RFC 7301) with a version of Go, the preferred one
// first.
func alpn(goVersion string) []string {
	if http2IsSafe(goVersion) {
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}
