// Package lastrelease builds disc as it was last released, for the tests of fleets of several
// versions.
package lastrelease

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"disc/discovery/devetcd/etcdtest"
)

// entry is the newest release in CHANGELOG.md: its version, and the commit that it names.
var entry = regexp.MustCompile(`(?m)^## ([0-9][^ ]*) - [0-9-]+\n\nCommit ([0-9a-f]{7,40})\.$`)

// Release is a release of disc.
type Release struct {
	Version string
	Commit  string
	root    string // of the repository
}

// Newest returns the newest release that CHANGELOG.md names.
func Newest() (Release, error) {
	root, err := os.Getwd()
	if err != nil {
		return Release{}, err
	}
	for {
		changes, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
		if err == nil {
			found := entry.FindSubmatch(changes)
			if found == nil {
				return Release{}, errors.New("CHANGELOG.md has no release that names its commit, as docs/releasing.md says")
			}
			return Release{string(found[1]), string(found[2]), root}, nil
		}
		above := filepath.Dir(root)
		if !errors.Is(err, os.ErrNotExist) || above == root {
			return Release{}, fmt.Errorf("find CHANGELOG.md: %w", err)
		}
		root = above
	}
}

// Check returns an error if the repository does not have the commit of the release, as in a shallow
// clone or a copy without git.
func (r Release) Check() error {
	out, err := exec.Command("git", "-C", r.root, "cat-file", "-e", r.Commit+"^{commit}").CombinedOutput()
	if err != nil {
		return fmt.Errorf("git does not have commit %s of the last release, %s: %w: %s; fetch the whole history, such as by git fetch --unshallow",
			r.Commit, r.Version, err, bytes.TrimSpace(out))
	}
	return nil
}

// build builds the release, and returns the path of its program.
func (r Release) build() (string, error) {
	dir, err := os.MkdirTemp("", "disc-"+r.Version+"-")
	if err != nil {
		return "", err
	}
	archive := exec.Command("git", "-C", r.root, "archive", "--format", "tar", r.Commit)
	unpack := exec.Command("tar", "-x", "-C", dir)
	var ofArchive, ofUnpack bytes.Buffer
	archive.Stderr, unpack.Stderr = &ofArchive, &ofUnpack
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		return "", err
	}
	if err := errors.Join(unpack.Start(), archive.Run(), unpack.Wait()); err != nil {
		return "", fmt.Errorf("unpack commit %s: %w: %s%s", r.Commit, err, ofArchive.Bytes(), ofUnpack.Bytes())
	}
	program := filepath.Join(dir, "bin", "disc-last")
	build := exec.Command("go", "build", "-mod=mod", "-o", program, "./cmd/disc")
	build.Dir, build.Env = dir, append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build commit %s: %w: %s", r.Commit, err, out)
	}
	return program, nil
}

// Check returns an error if the last release cannot be built, since git does not have its commit.
func Check() error {
	r, err := Newest()
	if err != nil {
		return err
	}
	return r.Check()
}

// Build returns the path of the last release's program, disc-last, alone in its directory. It is built
// once, into the temporary directory of the tests.
var Build = sync.OnceValues(func() (string, error) {
	r, err := Newest()
	if err != nil {
		return "", err
	}
	return r.build()
})

// Program is [Build] for a test, which is skipped in short runs, and where git does not have the commit.
func Program(t testing.TB) string {
	t.Helper()
	etcdtest.SkipUnlessLong(t, "it builds the last release")
	if err := Check(); err != nil {
		t.Skip(err)
	}
	program, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	return program
}
