package mqtt

// PropertyID identifies a property of MQTT 5 (section 2.2.2.2).
type PropertyID byte

// All properties of MQTT 5.
const (
	PropPayloadFormat           PropertyID = 0x01
	PropMessageExpiry           PropertyID = 0x02
	PropContentType             PropertyID = 0x03
	PropResponseTopic           PropertyID = 0x08
	PropCorrelationData         PropertyID = 0x09
	PropSubscriptionID          PropertyID = 0x0B
	PropSessionExpiry           PropertyID = 0x11
	PropAssignedClientID        PropertyID = 0x12
	PropServerKeepAlive         PropertyID = 0x13
	PropAuthMethod              PropertyID = 0x15
	PropAuthData                PropertyID = 0x16
	PropRequestProblemInfo      PropertyID = 0x17
	PropWillDelay               PropertyID = 0x18
	PropRequestResponseInfo     PropertyID = 0x19
	PropResponseInfo            PropertyID = 0x1A
	PropServerReference         PropertyID = 0x1C
	PropReasonString            PropertyID = 0x1F
	PropReceiveMaximum          PropertyID = 0x21
	PropTopicAliasMaximum       PropertyID = 0x22
	PropTopicAlias              PropertyID = 0x23
	PropMaximumQoS              PropertyID = 0x24
	PropRetainAvailable         PropertyID = 0x25
	PropUser                    PropertyID = 0x26
	PropMaximumPacketSize       PropertyID = 0x27
	PropWildcardAvailable       PropertyID = 0x28
	PropSubscriptionIDAvailable PropertyID = 0x29
	PropSharedAvailable         PropertyID = 0x2A
)
