package mqtt

// Pingreq asks for a Pingresp and keeps the connection alive.
type Pingreq struct{}

// Pingresp answers Pingreq.
type Pingresp struct{}

// Type returns TypePingreq.
func (*Pingreq) Type() Type { return TypePingreq }

// Type returns TypePingresp.
func (*Pingresp) Type() Type { return TypePingresp }
