package kfilter

import "github.com/clewsec/clew/internal/event"

// MaxHooks is how many functions rules can have watched at a time: the names
// of ondemand.
const MaxHooks = 16

// fileNames tells whether the names of a kind's filter are those of files. Of
// ondemand they are the functions to watch, which is no map's size to limit.
func fileNames(kind event.Kind) bool { return kind != event.KindOndemand }
