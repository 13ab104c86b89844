package mqtt

// Auth is a step of enhanced authentication. It exists in MQTT 5 only.
type Auth struct {
	Code         ReasonCode
	AuthMethod   string
	AuthData     []byte
	ReasonString string
	UserProps    []UserProperty
}

// Type returns TypeAuth.
func (*Auth) Type() Type { return TypeAuth }
