package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsNameWhatExists: a file, folder or make target that the documents name is there, so that they cannot rot in
// silence.
func TestDocumentsNameWhatExists(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "integration/README.md"} {
		text, err := os.ReadFile(filepath.Join("..", doc))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range namedFiles(string(text)) {
			// A bare name belongs to the folder of the document.
			if _, err := os.Stat(filepath.Join("..", name)); err == nil {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(doc), name)); err == nil {
				continue
			}
			t.Errorf("%s names %s, which does not exist", doc, name)
		}
		for _, m := range regexp.MustCompile("`make ([a-z]+)`").FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s names make %s, which is no target", doc, m[1])
			}
		}
	}
}

// namedFiles finds Go files and documents in backquotes or links, with a folder of this repository or without one.
func namedFiles(text string) []string {
	var names []string
	for _, m := range regexp.MustCompile("[`(]((?:[a-z]+/)*[A-Za-z_]+\\.(?:go|md))[`)]").FindAllStringSubmatch(text, -1) {
		if n := m[1]; n != "doc.go" && n != "errors.go" && n != "DESIGN.md" && n != "metrics.go" {
			names = append(names, n)
		}
	}
	return names
}
