package mqtt

import "fmt"

// ReasonCode is a reason code of MQTT 5 section 2.4. For older versions the
// codec translates: see ReasonCode.ReturnCode and Append.
type ReasonCode byte

// All reason codes of MQTT 5. Values below 0x80 mean success.
const (
	Success                             ReasonCode = 0x00
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	ReAuthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// Other names of 0x00, used where they read better.
const (
	NormalDisconnection = Success
	GrantedQoS0         = Success
)

// Failed reports whether the code means failure (0x80 and above).
func (c ReasonCode) Failed() bool { return c >= 0x80 }

// ValidIn reports whether MQTT 5 allows the code in packets of type t,
// whichever side sends them (section 2.4).
func (c ReasonCode) ValidIn(t Type) bool {
	_, in := c.info()
	return in&only(t) != 0
}

// String returns the specification's name in lower case, such as "packet too
// large", or the number in hexadecimal for an unknown code.
func (c ReasonCode) String() string {
	if name, _ := c.info(); name != "" {
		return name
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

// ReturnCode returns the CONNACK return code of MQTT 3.1 and 3.1.1 that stands
// for c. ok is false if there is none: then the connection is to be closed
// without a CONNACK (v311:MQTT-3.2.2-6).
func (c ReasonCode) ReturnCode() (rc byte, ok bool) {
	switch c {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, ServerShuttingDown, QuotaExceeded, ConnectionRateExceeded,
		UseAnotherServer, ServerMoved:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	}
	return 0, false
}

// fromReturnCode is the inverse of ReturnCode.
func fromReturnCode(rc byte) (ReasonCode, bool) {
	switch rc {
	case 0:
		return Success, true
	case 1:
		return UnsupportedProtocolVersion, true
	case 2:
		return ClientIdentifierNotValid, true
	case 3:
		return ServerUnavailable, true
	case 4:
		return BadUserNameOrPassword, true
	case 5:
		return NotAuthorized, true
	}
	return 0, false
}
