package demo

import _ "embed"

// Recording returns the attack as it was recorded once, in the stream format of
// `clew record`, and where it was played. tools/record-demo.sh makes it.
func Recording() ([]byte, Plan) {
	plan := staged
	plan.Root = recordedRoot
	return recording, plan
}

// recordedRoot is where the attack was played that recording holds.
const recordedRoot = "/tmp/clew-demo"

//go:embed demo.clewrec
var recording []byte
