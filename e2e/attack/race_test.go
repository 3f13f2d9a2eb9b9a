//go:build race

package attack_test

// raceDetector says whether the code of this test has the race detector, which needs up to ten
// times the memory.
const raceDetector = true
