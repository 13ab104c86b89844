package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// What all tests of one process share: the binary, built once, its directory, and the source of ports. Package state is
// accepted here because a test binary has no main that could hand it down.
var (
	binaryOnce = sync.OnceValues(buildBinary)
	binaryDir  = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "flotilla-bin-") })
	ports      = newPortSource()
)

// Run runs the tests of a package and deletes the binary that they built. Call it from TestMain.
func Run(m *testing.M) int {
	code := m.Run()
	if dir, err := binaryDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return code
}

// Binary returns the path of the flotilla binary, built from this tree once per test process. FLOTILLA_BIN names another
// one (an older release, a build with planted bugs); FLOTILLA_RACE=1 builds with the race detector.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := binaryOnce()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func buildBinary() (string, error) {
	if path := os.Getenv("FLOTILLA_BIN"); path != "" {
		return filepath.Abs(path)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := binaryDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "flotilla")
	args := []string{"build", "-o", path}
	if os.Getenv("FLOTILLA_RACE") != "" {
		args = append(args, "-race")
	}
	if tags := os.Getenv("FLOTILLA_TAGS"); tags != "" {
		args = append(args, "-tags", tags)
	}
	cmd := exec.Command("go", append(args, "./cmd/flotilla")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/flotilla: %w\n%s", err, out)
	}
	return path, nil
}

// moduleRoot finds go.mod from this file's place upwards, whatever package is under test.
func moduleRoot() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("find the module root: no caller information")
	}
	for dir := filepath.Dir(file); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find the module root: no go.mod above %s", file)
}
