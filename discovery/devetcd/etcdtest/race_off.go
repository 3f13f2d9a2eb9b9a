//go:build !race

package etcdtest

// RaceDetector says whether the code of this test has the race detector.
const RaceDetector = false
