package command

import "testing"

// restoreSamples are the commands that bring a backup back, for TestGolden.
func restoreSamples() []sample {
	restore := Restore{Step: RestoreLoad, ID: "op-1", Meta: []byte{1, 9}, Records: 300, Sum: [16]byte{1, 15: 2}, Digest: [16]byte{3, 15: 4}}
	chunk := RestoreChunk{ID: "op-1", Seq: 300, Pairs: []byte{1, 'S', 1, 'x'}}
	restoring := Restoring{ID: "op-1", Phase: RestoreOpening, Backup: "abc", Node: "n1"}
	return []sample{
		{"restore", KindRestore, AppendRestore(nil, &restore), restore, decoded[Restore]},
		{"restore-chunk", KindRestoreChunk, AppendRestoreChunk(nil, &chunk), chunk, decoded[RestoreChunk]},
		{"restoring", KindRestoring, AppendRestoring(nil, &restoring), restoring, decoded[Restoring]},
	}
}

// TestRestoreSteps holds the bytes of the steps that carry nothing but an attempt.
func TestRestoreSteps(t *testing.T) {
	for _, step := range []RestoreStep{RestoreBegin, RestoreOpen, RestoreClear} {
		want := Restore{Step: step, ID: "op-1"}
		b := AppendRestore(nil, &want)
		golden(t, "restore-"+step.String(), b)
		it := Iter{b: b}
		var c Command
		var got Restore
		if ok, err := it.Next(&c); !ok || err != nil || got.Decode(c.Payload) != nil || got.Step != step || got.ID != want.ID {
			t.Fatalf("%s: %+v, %v", step, got, err)
		}
	}
}
