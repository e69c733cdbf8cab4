//go:build linux

package sensor

import "github.com/cilium/ebpf"

var see32Object func() (*ebpf.CollectionSpec, error)
