//go:build race

package attack_test

func init() { memoryFactor = 8 } // the race detector needs up to ten times the memory
