//go:build linux && (amd64 || arm64)

package sensor

import "testing"

// TestRingFill holds that a ring knows how full it was, also when nobody looked
// at that moment.
func TestRingFill(t *testing.T) {
	cons, prod := uint64(4096), uint64(4096)
	data := make([]byte, 2*4096)
	r := &ring{consPos: &cons, prodPos: &prod, data: data, mask: 4095}
	// Two empty records and one that was discarded.
	data[16+3] = ringDiscard >> 24
	prod += 24
	if used, high := r.fill(); used != 24 || high != 24 {
		t.Errorf("before: %d used, %d at most", used, high)
	}
	n := 0
	if err := r.drain(func([]byte) { n++ }); err != nil {
		t.Fatal(err)
	}
	if used, high := r.fill(); n != 2 || used != 0 || high != 24 {
		t.Errorf("after %d records: %d used, %d at most", n, used, high)
	}
}
