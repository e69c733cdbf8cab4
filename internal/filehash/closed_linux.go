package filehash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// closings tells when files that are open for writing are closed: a fanotify
// group that reports by file handle. Only files that are waited for are marked,
// each for that long, so the other files of the host cost nothing, and no mark
// needs CAP_SYS_ADMIN (from 5.13).
type closings struct {
	group *os.File
}

// newClosings opens the group. Where it is opened with CAP_SYS_ADMIN it works
// on after that has been given up.
func newClosings() (*closings, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	return &closings{os.NewFile(uintptr(fd), "fanotify")}, nil
}

func (c *closings) close() error { return c.group.Close() }

// atHandleFID asks for a handle that identifies a file and need not lead back to
// it, which overlay has from 6.6.
const atHandleFID = 0x200

// handleOf is what events will call the file.
func handleOf(fd int) (string, error) {
	h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EOPNOTSUPP) {
		h, _, err = unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH|atHandleFID)
	}
	if err != nil {
		return "", fmt.Errorf("file handle: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", fmt.Errorf("file system's id: %w", err)
	}
	return closingKey(st.Fsid.Val[0], st.Fsid.Val[1], h.Type(), h.Bytes()), nil
}

func closingKey(fsid0, fsid1, handleType int32, handle []byte) string {
	b := make([]byte, 0, 16+len(handle))
	b = binary.NativeEndian.AppendUint32(b, uint32(fsid0))
	b = binary.NativeEndian.AppendUint32(b, uint32(fsid1))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(handle)))
	b = binary.NativeEndian.AppendUint32(b, uint32(handleType))
	return string(append(b, handle...))
}

// mark asks to be told when the file is closed, and returns how that will name
// it.
func (c *closings) mark(f *os.File) (string, error) {
	var key string
	err := c.on(f, unix.FAN_MARK_ADD, &key)
	return key, err
}

// unmark takes that back. A file that is gone has no mark.
func (c *closings) unmark(f *os.File) { _ = c.on(f, unix.FAN_MARK_REMOVE, nil) }

func (c *closings) on(f *os.File, flags uint, key *string) error {
	group, err := c.group.SyscallConn()
	if err != nil {
		return err
	}
	file, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var merr error
	err = group.Control(func(g uintptr) {
		cerr := file.Control(func(fd uintptr) {
			if key != nil {
				if *key, merr = handleOf(int(fd)); merr != nil {
					return
				}
			}
			merr = unix.FanotifyMark(int(g), flags, unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(fd)))
		})
		merr = errors.Join(merr, cerr)
	})
	runtime.KeepAlive(f)
	return errors.Join(err, merr)
}

// run calls closed with the key of each file that was closed, or with "" when
// some may have been missed, until the group is closed.
func (c *closings) run(closed func(key string)) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.group.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read fanotify: %w", err)
		}
		parseClosings(buf[:n], closed)
	}
}

const metadataLen = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))

// parseClosings reads what the kernel says in one reading.
func parseClosings(b []byte, closed func(key string)) {
	for len(b) >= metadataLen {
		length := int(binary.NativeEndian.Uint32(b))
		head := int(binary.NativeEndian.Uint16(b[6:]))
		mask := binary.NativeEndian.Uint64(b[8:])
		if length < metadataLen || length > len(b) || head < metadataLen || head > length {
			return
		}
		info := b[head:length]
		b = b[length:]
		if mask&unix.FAN_Q_OVERFLOW != 0 {
			closed("")
			continue
		}
		// A record has a kind, a byte of nothing and its length; that of a file
		// then the file system's id and the handle.
		for len(info) >= 4 {
			kind, n := info[0], int(binary.NativeEndian.Uint16(info[2:]))
			if n < 4 || n > len(info) {
				break
			}
			fid := info[4:n]
			info = info[n:]
			if kind != unix.FAN_EVENT_INFO_TYPE_FID || len(fid) < 16 {
				continue
			}
			if size := int(binary.NativeEndian.Uint32(fid[8:])); size >= 0 && size <= len(fid)-16 {
				closed(string(fid[:16+size]))
			}
		}
	}
}
