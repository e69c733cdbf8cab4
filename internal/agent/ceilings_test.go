package agent

import "testing"

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"none": 0, "0": 0, "1048576": 1 << 20, "512MiB": 512 << 20, "2g": 2 << 30, "1 GiB": 1 << 30, "5MB": 5e6, "64k": 64 << 10,
		"": -1, "x": -1, "-1": -1, "1.5g": -1, "9999999999g": -1, "MiB": -1,
	} {
		got, err := ParseBytes(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d, want %d (%v)", in, got, want, err)
		}
	}
}

func TestDefaultLimits(t *testing.T) {
	for _, tt := range []struct {
		memory int64
		cpus   int
		want   Limits
	}{
		{24 << 30, 2, Limits{Agent: Ceilings{256 << 20, 1.5}, Server: Ceilings{12 << 30, 1.5}}},
		{512 << 20, 1, Limits{Agent: Ceilings{256 << 20, 1}, Server: Ceilings{512 << 20, 1}}},
		{1 << 40, 128, Limits{Agent: Ceilings{256 << 20, 4}, Server: Ceilings{16 << 30, 96}}},
		{0, 4, Limits{Agent: Ceilings{256 << 20, 3}, Server: Ceilings{512 << 20, 3}}},
	} {
		got := DefaultLimits(tt.memory, tt.cpus)
		if got != tt.want {
			t.Errorf("%d bytes, %d processors: %+v, want %+v", tt.memory, tt.cpus, got, tt.want)
		}
		if err := got.validate(); err != nil {
			t.Errorf("%+v: %v", got, err)
		}
	}
	for _, bad := range []Ceilings{{Memory: 1 << 20}, {Memory: -1}, {CPUs: -1}, {CPUs: 0.001}} {
		if (Limits{Agent: bad}).validate() == nil || (Limits{Server: bad}).validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

// TestPressureLevels holds that the level follows the use, and does not swing
// where the use swings a little.
func TestPressureLevels(t *testing.T) {
	var g pressureGauge
	for _, tt := range []struct {
		used int64
		want Pressure
	}{
		{10, 0}, {79, 0}, {80, 1}, {75, 1}, {91, 1}, {92, 2}, {85, 2}, {83, 1}, {71, 0}, {99, 2}, {10, 0},
	} {
		if got := g.read(tt.used, 100); got != tt.want {
			t.Errorf("at %d: level %d, want %d", tt.used, got, tt.want)
		}
	}
	if got := g.read(100, 0); got != PressureNone {
		t.Errorf("without a ceiling: level %d", got)
	}
}
