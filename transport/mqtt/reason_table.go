package mqtt

// placeSet is a set of places where a code or a property may stand: bit t for
// packets of type t, and the bits below for places that are no packet type.
type placeSet uint32

const (
	inWill    placeSet = 1 << 0  // the will properties of CONNECT
	inMessage placeSet = 1 << 16 // Publish.Props: what travels with a message

	inConnect     placeSet = 1 << TypeConnect
	inConnack     placeSet = 1 << TypeConnack
	inPublish     placeSet = 1 << TypePublish
	inPuback      placeSet = 1 << TypePuback
	inPubrec      placeSet = 1 << TypePubrec
	inPubrel      placeSet = 1 << TypePubrel
	inPubcomp     placeSet = 1 << TypePubcomp
	inSubscribe   placeSet = 1 << TypeSubscribe
	inSuback      placeSet = 1 << TypeSuback
	inUnsubscribe placeSet = 1 << TypeUnsubscribe
	inUnsuback    placeSet = 1 << TypeUnsuback
	inDisconnect  placeSet = 1 << TypeDisconnect
	inAuth        placeSet = 1 << TypeAuth

	inAcked    = inPuback | inPubrec
	inReleased = inPubrel | inPubcomp
)

func only(t Type) placeSet { return 1 << (t & 15) &^ 1 }

// info returns the name of the code and the packets that may carry it: v5
// section 2.4, with what the tables of section 3 add.
func (c ReasonCode) info() (string, placeSet) {
	if c.Failed() {
		return c.failure()
	}
	switch c {
	case Success:
		return "success", inConnack | inAcked | inReleased | inSuback | inUnsuback | inDisconnect | inAuth
	case GrantedQoS1:
		return "granted QoS 1", inSuback
	case GrantedQoS2:
		return "granted QoS 2", inSuback
	case DisconnectWithWill:
		return "disconnect with will message", inDisconnect
	case NoMatchingSubscribers:
		return "no matching subscribers", inAcked
	case NoSubscriptionExisted:
		return "no subscription existed", inUnsuback
	case ContinueAuthentication:
		return "continue authentication", inAuth
	case ReAuthenticate:
		return "re-authenticate", inAuth
	}
	return "", 0
}

func (c ReasonCode) failure() (string, placeSet) {
	switch c {
	case UnspecifiedError:
		return "unspecified error", inConnack | inAcked | inSuback | inUnsuback | inDisconnect
	case MalformedPacket:
		return "malformed packet", inConnack | inDisconnect
	case ProtocolError:
		return "protocol error", inConnack | inDisconnect
	case ImplementationSpecificError:
		return "implementation specific error", inConnack | inAcked | inSuback | inUnsuback | inDisconnect
	case UnsupportedProtocolVersion:
		return "unsupported protocol version", inConnack
	case ClientIdentifierNotValid:
		return "client identifier not valid", inConnack
	case BadUserNameOrPassword:
		return "bad user name or password", inConnack
	case NotAuthorized:
		return "not authorized", inConnack | inAcked | inSuback | inUnsuback | inDisconnect
	case ServerUnavailable:
		return "server unavailable", inConnack
	case ServerBusy:
		return "server busy", inConnack | inDisconnect
	case Banned:
		return "banned", inConnack
	case ServerShuttingDown:
		return "server shutting down", inDisconnect
	case BadAuthenticationMethod:
		return "bad authentication method", inConnack | inDisconnect
	case KeepAliveTimeout:
		return "keep alive timeout", inDisconnect
	case SessionTakenOver:
		return "session taken over", inDisconnect
	case TopicFilterInvalid:
		return "topic filter invalid", inSuback | inUnsuback | inDisconnect
	case TopicNameInvalid:
		return "topic name invalid", inConnack | inAcked | inDisconnect
	case PacketIdentifierInUse:
		return "packet identifier in use", inAcked | inSuback | inUnsuback
	case PacketIdentifierNotFound:
		return "packet identifier not found", inReleased
	case ReceiveMaximumExceeded:
		return "receive maximum exceeded", inDisconnect
	case TopicAliasInvalid:
		return "topic alias invalid", inDisconnect
	}
	return c.refusal()
}

func (c ReasonCode) refusal() (string, placeSet) {
	switch c {
	case PacketTooLarge:
		return "packet too large", inConnack | inDisconnect
	case MessageRateTooHigh:
		return "message rate too high", inDisconnect
	case QuotaExceeded:
		return "quota exceeded", inConnack | inAcked | inSuback | inDisconnect
	case AdministrativeAction:
		return "administrative action", inDisconnect
	case PayloadFormatInvalid:
		return "payload format invalid", inConnack | inAcked | inDisconnect
	case RetainNotSupported:
		return "retain not supported", inConnack | inDisconnect
	case QoSNotSupported:
		return "QoS not supported", inConnack | inDisconnect
	case UseAnotherServer:
		return "use another server", inConnack | inDisconnect
	case ServerMoved:
		return "server moved", inConnack | inDisconnect
	case SharedSubscriptionsNotSupported:
		return "shared subscriptions not supported", inSuback | inDisconnect
	case ConnectionRateExceeded:
		return "connection rate exceeded", inConnack | inDisconnect
	case MaximumConnectTime:
		return "maximum connect time", inDisconnect
	case SubscriptionIdentifiersNotSupported:
		return "subscription identifiers not supported", inSuback | inDisconnect
	case WildcardSubscriptionsNotSupported:
		return "wildcard subscriptions not supported", inSuback | inDisconnect
	}
	return "", 0
}
