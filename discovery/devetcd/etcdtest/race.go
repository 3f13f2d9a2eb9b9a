//go:build race

package etcdtest

// RaceDetector says whether the code of this test has the race detector, which needs up to ten
// times the memory.
const RaceDetector = true
