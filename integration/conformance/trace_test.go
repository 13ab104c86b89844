package conformance

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

const tableFile = "../../TRACEABILITY.md"

//go:generate env FLOTILLA_TRACE=write go test -count=1 -run ^TestTraceabilityTableIsCurrent$ .

// TestTraceabilityTableIsCurrent holds TRACEABILITY.md against the lists and the tests; with FLOTILLA_TRACE=write it
// writes the file.
func TestTraceabilityTableIsCurrent(t *testing.T) {
	specs, err := specifications("statements")
	if err != nil {
		t.Fatal(err)
	}
	proofs, err := scan("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, faults := trace(specs, proofs)
	for _, f := range faults {
		t.Error(f)
	}
	if os.Getenv("FLOTILLA_TRACE") == "write" {
		if err := os.WriteFile(tableFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old, []byte(text)) {
		t.Error("TRACEABILITY.md is stale: run make trace")
	}
}

// TestStatementsAreComplete holds the number of statements, which the standards fix.
func TestStatementsAreComplete(t *testing.T) {
	specs, err := specifications("statements")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"v5": 251, "v311": 141}
	for _, sp := range specs {
		if got := len(sp.statements); got != want[sp.spec] {
			t.Errorf("%s: %d statements, want %d", sp.title, got, want[sp.spec])
		}
	}
}

func TestKeysOf(t *testing.T) {
	for name, want := range map[string]string{
		"TestA":                                    "",
		"TestA_v5_MQTT_3_1_2_24":                   "v5_MQTT_3_1_2_24",
		"TestA_v5_MQTT_4_6_0_2_MQTT_4_6_0_3":       "v5_MQTT_4_6_0_2 v5_MQTT_4_6_0_3",
		"TestA_v311_MQTT_3_1_0_2_v5_MQTT_3_1_0_2":  "v311_MQTT_3_1_0_2 v5_MQTT_3_1_0_2",
		"TestA_v5_MQTT_4_12":                       "",
		"TestA_v5_3_4_2_1_v5_3_14_2_1":             "",
		"TestA_v31_3_2_v5_MQTT_1_5_4_1":            "v5_MQTT_1_5_4_1",
		"TestA_v5_MQTT_1_5_4_1_v5_MQTT_1_5_4_1_I1": "v5_MQTT_1_5_4_1",
		"TestMQTT_1_2_3_4":                         "",
	} {
		if got := strings.Join(keysOf(name), " "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// The rules of the table must be able to fail.
func TestTraceRulesBite(t *testing.T) {
	proofs, err := scanFile("a_test.go", `package a
func TestA_v5_MQTT_1_0_0_1(t *testing.T) {}
func TestB_v5_MQTT_1_0_0_2_MQTT_9_9_9_9(t *testing.T) {}
func TestC_v5_MQTT_1_0_0_3(t *testing.T) { knownBug(t, "it is broken") }
func helper_v5_MQTT_1_0_0_4() {}`)
	if err != nil {
		t.Fatal(err)
	}
	of := func(id, binds, reason string) statement {
		return statement{spec: "v5", id: "MQTT-1.0.0-" + id, binds: binds, asks: "asks", reason: reason}
	}
	text, faults := trace([]specification{{spec: "v5", title: "X", statements: []statement{
		of("1", "server", ""), of("2", "server", "cannot be seen"), of("3", "both", ""), of("4", "client", ""), of("5", "server", "not applicable"),
	}}}, proofs)
	want := []string{
		": TestB_v5_MQTT_1_0_0_2_MQTT_9_9_9_9 names a statement that does not exist: v5_MQTT_9_9_9_9",
		"v5_MQTT_1_0_0_2 has a test and a reason why it has none",
		"v5_MQTT_1_0_0_3 binds a server and has neither a test nor a reason: asks",
	}
	if slices.Sort(faults); !slices.Equal(faults, want) {
		t.Errorf("faults:\n got %q\nwant %q", faults, want)
	}
	for _, row := range []string{
		"| X | 5 | 2 | 1 | 1 | 1 |", "| MQTT-1.0.0-3 | both | asks | **open**; known bug: it is broken |",
		"| MQTT-1.0.0-4 | client | asks | binds the client only |", "| MQTT-1.0.0-5 | server | asks | not applicable |",
	} {
		if !strings.Contains(text, row+"\n") {
			t.Errorf("no row %q in:\n%s", row, text)
		}
	}
}
