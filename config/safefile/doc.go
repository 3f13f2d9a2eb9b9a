// Package safefile opens directories and files that no other user of the host can redirect
// or change.
//
// It trusts two users: root, and the user of this process (its effective user id). A path
// is walked name by name (openat(2)), so that it cannot change underneath. A symbolic link
// on the way is followed only if a trusted user owns it and nobody else can put another in
// its place: the rule of OpenSSH's StrictModes for links, and that of the kernel's
// fs.protected_symlinks in every directory. So /var/lib/disc may be root's link to
// /var/lib/private/disc, as systemd's DynamicUser= has it.
//
//	dir, err := safefile.MakeDir("/var/lib/disc")
//	err = dir.Private()
//	err = dir.Replace("owner", func(w io.Writer) error { … })
package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ErrUntrusted is the kind of errors about something that another user could change. Their
// text names the path, its owner and its mode, and says what to do.
var ErrUntrusted = errors.New("another user could change it")

// ErrShared is the kind of those [ErrUntrusted] that are about the owner or the mode of a directory
// or a file, which [Dir.Tolerate] accepts.
var ErrShared = errors.New("others own it or may write to it")

// untrusted is an [ErrUntrusted] with a text of its own.
type untrusted string

func (u untrusted) Error() string      { return string(u) }
func (untrusted) Is(target error) bool { return target == ErrUntrusted }

// shared is an [ErrShared] with a text of its own.
type shared string

func (s shared) Error() string      { return string(s) }
func (shared) Is(target error) bool { return target == ErrUntrusted || target == ErrShared }

func untrustedf(format string, args ...any) error { return untrusted(fmt.Sprintf(format, args...)) }
func sharedf(format string, args ...any) error    { return shared(fmt.Sprintf(format, args...)) }

// writableByOthers are the bits of a mode that let the group and all users write.
const writableByOthers = 0o022

// ownerOf returns the user id of the owner of a file.
func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// trusts reports whether a user is root or that of this process.
func trusts(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// CheckOwner returns an [ErrShared] unless root or this process's user owns the
// file or directory at path.
func CheckOwner(path string, info fs.FileInfo) error {
	if owner := ownerOf(info); !trusts(owner) {
		return sharedf("%s belongs to user id %d (mode %04o), and this process runs as user id %d: chown it to that user, or choose another path",
			path, owner, mode(info), os.Geteuid())
	}
	return nil
}

// wantPrivate returns an [ErrShared] unless a trusted user owns the file or directory at path and
// nobody else may write to it.
func wantPrivate(path string, info fs.FileInfo) error {
	if err := CheckOwner(path, info); err != nil {
		return err
	}
	if info.Mode().Perm()&writableByOthers != 0 {
		return sharedf("%s (user id %d, mode %04o) is writable by others than its owner: run chmod go-w %s, or choose another path", path, ownerOf(info), mode(info), path)
	}
	return nil
}

// mode returns the permissions as chmod takes them, the sticky bit among them.
func mode(info fs.FileInfo) uint32 {
	return uint32(info.Sys().(*syscall.Stat_t).Mode) & 0o7777 //nolint:unconvert // it has 16 bits on macOS
}
