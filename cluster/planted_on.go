//go:build planted

package cluster

import "os"

// planted tells whether this process has a bug on purpose: the one that FLOTILLA_PLANTED names. The suites must notice each
// (TestPlanted in integration).
func planted(bug string) bool { return os.Getenv("FLOTILLA_PLANTED") == bug }
