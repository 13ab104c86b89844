package router

import (
	"bytes"
	"unicode/utf8"
)

// MaxStringBytes is the length of the longest MQTT string, and so of the
// longest topic name or filter, whatever the operator allows. v5:MQTT-4.7.3-3
const MaxStringBytes = 65535

// CheckTopic reports why topic is not a valid topic name of a PUBLISH, or nil.
// maxBytes and maxLevels bound its length and its number of levels; zero or
// less means the protocol's own bound (65,535 bytes). The error is one of the
// ErrTopic sentinels. It does not judge a leading $: that is a matter of rights.
func CheckTopic(topic []byte, maxBytes, maxLevels int) error {
	if len(topic) == 0 {
		return ErrTopicEmpty
	}
	if tooLong(len(topic), maxBytes) {
		return ErrTopicTooLong
	}
	levels := 1
	for _, c := range topic {
		switch c {
		case '/':
			levels++
		case '+', '#':
			return ErrTopicWildcard
		case 0:
			return ErrTopicNUL
		}
	}
	if maxLevels > 0 && levels > maxLevels {
		return ErrTopicTooDeep
	}
	if !utf8.Valid(topic) {
		return ErrTopicUTF8
	}
	return nil
}

// tooLong reports whether n bytes are more than the operator (limit, if
// positive) or the protocol allows.
func tooLong(n, limit int) bool {
	if limit <= 0 || limit > MaxStringBytes {
		limit = MaxStringBytes
	}
	return n > limit
}

// levelEnd returns where the level that starts at from ends: at the next
// separator or at the end of s.
func levelEnd(s []byte, from int) int {
	if i := bytes.IndexByte(s[from:], '/'); i >= 0 {
		return from + i
	}
	return len(s)
}
