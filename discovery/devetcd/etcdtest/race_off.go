//go:build !race

package etcdtest

const raceDetector = false
