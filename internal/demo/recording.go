package demo

// Recording returns the attack as it was recorded once, in the stream format of
// `clew record`, and where it was played. It is nil when this build has none.
func Recording() ([]byte, Plan) {
	plan := staged
	plan.Root = recordedRoot
	return recording, plan
}

// recordedRoot is where the attack was played that recording holds.
const recordedRoot = "/tmp/clew-demo"

// recording is nil until one is embedded.
var recording []byte
