package discovery

import (
	"testing"
)

// BenchmarkDecodeInstance reads a record as agents write it, beside one like it, and
// one in another form.
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
