package command

// recoverSamples are the commands of the offline recovery, for TestGolden.
func recoverSamples() []sample {
	r := Recover{
		Epoch: 1 << 32, SID: 2 << 32, Origin: 400,
		Gone: []GoneMember{
			{Member: SessionKey{Tenant: "acme", ClientID: "meter-1"}, Filter: "$share/workers/a/#", Share: 17, Held: []Range{{2, 2}, {9, 12}}},
			{Member: SessionKey{ClientID: "b"}, Filter: "$share/w/b"},
		},
	}
	c := RecoverControl{Survivors: []string{"n1", "n4"}, Removed: []string{"n9"}, Incarnation: 77, Reason: "recovered"}
	return []sample{
		{"recover", KindRecover, AppendRecover(nil, &r), r, decoded[Recover]},
		{"recover-control", KindRecoverControl, AppendRecoverControl(nil, &c), c, decoded[RecoverControl]},
	}
}
