//go:build race

package attack_test

func init() { raceDetector = true }
