package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestOtherVariables expects that whatever variable a command of this package sets is one that disc
// does not warn of, where disc is called by it again.
func TestOtherVariables(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := regexp.MustCompile(`"(DISC_[A-Z_]+)="`)
	found := 0
	for _, file := range files {
		if matched, _ := filepath.Match("*_test.go", file); matched {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range set.FindAllSubmatch(source, -1) {
			if found++; !slices.Contains(otherVariables, string(m[1])) {
				t.Errorf("%s sets %s, which otherVariables lacks", file, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no variable is found in the source")
	}
}
