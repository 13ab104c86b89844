package router

import "errors"

// What a topic name can break. All of them make a PUBLISH invalid (v5: 0x90).
var (
	// ErrTopicEmpty: a topic name has at least one character. v5:MQTT-4.7.3-1
	ErrTopicEmpty = errors.New("topic name is empty")
	// ErrTopicWildcard: a topic name has no + and no #. v5:MQTT-3.3.2-2
	ErrTopicWildcard = errors.New("topic name contains a wildcard")
	// ErrTopicNUL: a topic name has no U+0000. v5:MQTT-4.7.3-2
	ErrTopicNUL = errors.New("topic name contains a null character")
	// ErrTopicUTF8: a topic name is well-formed UTF-8. v5:MQTT-1.5.4-1
	ErrTopicUTF8 = errors.New("topic name is not well-formed UTF-8")
	// ErrTopicTooLong: a topic name is longer than the protocol or the operator allows.
	ErrTopicTooLong = errors.New("topic name is too long")
	// ErrTopicTooDeep: a topic name has more levels than the operator allows.
	ErrTopicTooDeep = errors.New("topic name has too many levels")
)

// What a topic filter can break. All of them make a filter invalid (v5: 0x8F).
var (
	// ErrFilterEmpty: a topic filter has at least one character. v5:MQTT-4.7.3-1
	ErrFilterEmpty = errors.New("topic filter is empty")
	// ErrFilterHash: # stands alone in the last level. v5:MQTT-4.7.1-1
	ErrFilterHash = errors.New("topic filter has a # that is not the whole last level")
	// ErrFilterPlus: + fills its level. v5:MQTT-4.7.1-2
	ErrFilterPlus = errors.New("topic filter has a + that is not a whole level")
	// ErrFilterNUL: a topic filter has no U+0000. v5:MQTT-4.7.3-2
	ErrFilterNUL = errors.New("topic filter contains a null character")
	// ErrFilterUTF8: a topic filter is well-formed UTF-8. v5:MQTT-1.5.4-1
	ErrFilterUTF8 = errors.New("topic filter is not well-formed UTF-8")
	// ErrFilterTooLong: a topic filter is longer than the protocol or the operator allows.
	ErrFilterTooLong = errors.New("topic filter is too long")
	// ErrFilterTooDeep: a topic filter has more levels than the operator allows.
	ErrFilterTooDeep = errors.New("topic filter has too many levels")
	// ErrShareName: a share name has at least one character and no /, + or #. v5:MQTT-4.8.2-1
	ErrShareName = errors.New("shared subscription has no valid share name")
	// ErrShareFilter: a share name is followed by / and a filter that is not
	// itself a shared subscription. v5:MQTT-4.8.2-2
	ErrShareFilter = errors.New("shared subscription has no valid topic filter")
)
