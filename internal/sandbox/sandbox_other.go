//go:build !linux

package sandbox

import "fmt"

// Become cannot give up root here.
func Become(uint32, uint32) error { return fmt.Errorf("give up root: %w", ErrNotSupported) }

// Enter cannot sandbox here.
func Enter(Config) (Report, error) { return Report{}, fmt.Errorf("sandbox: %w", ErrNotSupported) }

// Reduce cannot take anything away here.
func Reduce(Reduction) (Report, error) {
	return Report{}, fmt.Errorf("sandbox: %w", ErrNotSupported)
}

// Seal cannot sandbox here.
func Seal() (Report, error) { return Report{}, fmt.Errorf("sandbox: %w", ErrNotSupported) }
