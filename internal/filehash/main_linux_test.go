package filehash

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if IsHelper() {
		os.Exit(RunHelper())
	}
	os.Exit(m.Run())
}
