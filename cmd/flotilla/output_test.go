package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestTablesAreAlignedAndFit(t *testing.T) {
	rows := [][]string{{"NAME", "VALUE"}, {"ä", strings.Repeat("x", 300)}, {"longer", "y"}}
	fit(rows, maxTable)
	var out bytes.Buffer
	if err := writeRows(&out, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for _, l := range lines {
		if n := len([]rune(l)); n > maxTable {
			t.Errorf("%d characters: %s", n, l)
		}
	}
	if lines[0] != "NAME    VALUE" || !strings.HasPrefix(lines[1], "ä       xxx") || !strings.HasSuffix(lines[1], "…") {
		t.Errorf("table:\n%s", out.String())
	}
}

func TestSelectAndSort(t *testing.T) {
	items := []json.RawMessage{
		[]byte(`{"id":"b","n":10,"on":true,"x":null}`), []byte(`{"id":"a","n":9,"on":false,"x":"y"}`), []byte(`{"id":"c","n":9,"on":true,"x":""}`),
	}
	ids := func(items []json.RawMessage) (s string) {
		for _, raw := range items {
			text, _, err := fieldOf(raw, "id")
			if err != nil {
				t.Fatal(err)
			}
			s += text
		}
		return s
	}
	for field, want := range map[string]string{"n": "acb", "id": "abc", "on": "abc"} {
		sorted := append([]json.RawMessage(nil), items...)
		if err := sortItems(sorted, field); err != nil || ids(sorted) != want {
			t.Errorf("sort %s: %s, %v, want %s", field, ids(sorted), err, want)
		}
	}
	for filter, want := range map[string]string{"n=9": "ac", "on=true": "bc", "x=null": "b", "id=a": "a", "id=z": ""} {
		got, err := selectItems(items, []string{filter})
		if err != nil || ids(got) != want {
			t.Errorf("filter %s: %s, %v, want %s", filter, ids(got), err, want)
		}
	}
	for _, bad := range []string{"n", "=1", "nothing=1"} {
		if _, err := selectItems(items, []string{bad}); exitCode(err) != exitUsage {
			t.Errorf("filter %s: %v", bad, err)
		}
	}
	if err := sortItems(items, "nothing"); exitCode(err) != exitUsage {
		t.Errorf("sort by an unknown field: %v", err)
	}
}
