package batch

import "github.com/clewsec/clew/internal/event"

// complete tells whether an event has the part that its kind promises. What
// reads events relies on it.
func complete(e *event.Event) bool {
	switch e.Kind {
	case event.KindFork:
		return e.Fork != nil
	case event.KindExec:
		return e.Exec != nil
	case event.KindExit:
		return e.Exit != nil
	case event.KindOpen:
		return e.Open != nil
	case event.KindUnlink:
		return e.Unlink != nil
	case event.KindRename:
		return e.Rename != nil
	case event.KindChmod:
		return e.Chmod != nil
	case event.KindChown:
		return e.Chown != nil
	case event.KindLink:
		return e.Link != nil
	case event.KindSymlink:
		return e.Symlink != nil
	case event.KindConnect:
		return e.Connect != nil
	case event.KindAccept:
		return e.Accept != nil
	case event.KindBind:
		return e.Bind != nil
	case event.KindSetuid:
		return e.Setuid != nil
	case event.KindSetgid:
		return e.Setgid != nil
	case event.KindCgroupWrite:
		return e.CgroupWrite != nil
	case event.KindMkdir:
		return e.Mkdir != nil
	case event.KindRmdir:
		return e.Rmdir != nil
	}
	return false
}
