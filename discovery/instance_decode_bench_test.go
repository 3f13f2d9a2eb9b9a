package discovery

import (
	"testing"
)

// BenchmarkDecodeInstance decodes a record as agents write it, the same with a similar one,
// and one that is not in canonical form.
func BenchmarkDecodeInstance(b *testing.B) {
	like, err := DecodeInstance(typicalRecord("web", 1))
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name   string
		record []byte
	}{
		{"as written", typicalRecord("web", 2)},
		{"otherwise", append(typicalRecord("web", 2), '\n')},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.record)))
			b.ReportAllocs()
			for b.Loop() {
				if err := DecodeInstanceLike(bench.record, new(Instance), &like); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
