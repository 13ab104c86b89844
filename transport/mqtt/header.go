package mqtt

// header judges the first byte of a packet, as soon as it is there.
func header(v Version, first byte) *Error {
	t, flags := Type(first>>4), first&0x0F
	switch t {
	case 0:
		return malformed(v, rule{"v5:2.1.2", "v311:2.2.1", "v31:2.1"}, "packet type 0 is reserved")
	case TypePublish:
		return publishFlags(v, flags)
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		if v == V31 {
			flags &^= flagDup // v31:2.1 a retransmission may carry DUP
		}
		if flags != 0x02 {
			return malformed(v, flagRule(t), "reserved header flags are not 0010")
		}
		return nil
	case TypeAuth:
		if v == V31 || v == V311 {
			return malformed(v, rule{v311: "v311:2.2.1", v31: "v31:2.1"}, "packet type 15 is reserved")
		}
	}
	if flags != 0 {
		return malformed(v, flagRule(t), "reserved header flags are not 0000")
	}
	return nil
}

func publishFlags(v Version, flags byte) *Error {
	switch {
	case flags&0x06 == 0x06:
		return malformed(v, rule{"v5:MQTT-3.3.1-4", "v311:MQTT-3.3.1-4", "v31:2.1"}, "QoS is 3")
	case flags&flagDup != 0 && flags&0x06 == 0 && v != V31:
		return malformed(v, rule{v5: "v5:MQTT-3.3.1-2", v311: "v311:MQTT-3.3.1-2"}, "DUP with QoS 0")
	}
	return nil
}

func flagRule(t Type) rule {
	switch t {
	case TypePubrel:
		return rule{"v5:MQTT-3.6.1-1", "v311:MQTT-3.6.1-1", "v31:2.6"}
	case TypeSubscribe:
		return rule{"v5:MQTT-3.8.1-1", "v311:MQTT-3.8.1-1", "v31:2.6"}
	case TypeUnsubscribe:
		return rule{"v5:MQTT-3.10.1-1", "v311:MQTT-3.10.1-1", "v31:2.6"}
	case TypeDisconnect:
		return rule{"v5:MQTT-3.14.1-1", "v311:MQTT-3.14.1-1", "v31:2.6"}
	case TypeAuth:
		return rule{v5: "v5:MQTT-3.15.1-1"}
	}
	return rule{"v5:MQTT-2.1.3-1", "v311:MQTT-2.2.2-2", "v31:2.6"}
}
