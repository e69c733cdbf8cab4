// Command metricspage writes docs/reference/metrics.md from internal/metrics.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/clewsec/clew/internal/metrics"
)

const page = "docs/reference/metrics.md"

func main() {
	var b bytes.Buffer
	err := metrics.WritePage(&b)
	if err == nil {
		err = os.WriteFile(page, b.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "metricspage:", err)
		os.Exit(1)
	}
}
