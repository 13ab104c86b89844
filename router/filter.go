package router

import (
	"strings"
	"unicode/utf8"
)

// CheckFilter reports why filter is not a valid topic filter of a SUBSCRIBE, or
// nil. maxBytes bounds the whole filter and maxLevels the levels that take part
// in matching (without $share and the share name); zero or less means the
// protocol's own bound (65,535 bytes). The error is one of the ErrFilter or
// ErrShare sentinels. A filter that starts with $share/ must be a valid shared
// subscription in every version of the protocol.
func CheckFilter(filter string, maxBytes, maxLevels int) error {
	if filter == "" {
		return ErrFilterEmpty
	}
	if tooLong(len(filter), maxBytes) {
		return ErrFilterTooLong
	}
	_, inner, _, err := SplitShare(filter)
	if err != nil {
		return err
	}
	if strings.IndexByte(filter, 0) >= 0 {
		return ErrFilterNUL
	}
	levels, err := checkLevels(inner)
	if err != nil {
		return err
	}
	if maxLevels > 0 && levels > maxLevels {
		return ErrFilterTooDeep
	}
	if !utf8.ValidString(filter) {
		return ErrFilterUTF8
	}
	return nil
}

// checkLevels checks where the wildcards of a plain filter stand and counts its
// levels.
func checkLevels(filter string) (levels int, err error) {
	start := 0
	for i := 0; i <= len(filter); i++ {
		if i < len(filter) && filter[i] != '/' {
			continue
		}
		level := filter[start:i]
		levels++
		switch {
		case level == "#":
			if i != len(filter) {
				return levels, ErrFilterHash
			}
		case level == "+":
		case strings.IndexByte(level, '#') >= 0:
			return levels, ErrFilterHash
		case strings.IndexByte(level, '+') >= 0:
			return levels, ErrFilterPlus
		}
		start = i + 1
	}
	return levels, nil
}

// HasWildcard reports whether a valid plain filter has a wildcard. A filter
// without one matches exactly the topic that it spells.
func HasWildcard(filter string) bool {
	return strings.ContainsAny(filter, "+#")
}

// Matches reports whether a valid plain filter matches a valid topic name. It
// is for a single pair (an access rule, one retained message); for many filters
// use a [Trie]. It takes time linear in the topic and allocates nothing.
func Matches(filter string, topic []byte) bool {
	if len(topic) > 0 && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false // v5:MQTT-4.7.2-1
	}
	f, t := 0, 0
	for {
		fe := len(filter)
		if i := strings.IndexByte(filter[f:], '/'); i >= 0 {
			fe = f + i
		}
		level := filter[f:fe]
		if level == "#" && fe == len(filter) {
			return true
		}
		if t > len(topic) {
			return false
		}
		te := levelEnd(topic, t)
		if level != "+" && level != string(topic[t:te]) {
			return false
		}
		t, f = te+1, fe+1
		if f > len(filter) {
			return t > len(topic)
		}
	}
}

// LiteralPrefix returns the levels of a valid plain filter in front of its first
// wildcard, as bytes that every matching topic starts with. It bounds a scan
// over sorted topics. The parent of "a/#" matches too, so its prefix is "a".
func LiteralPrefix(filter string) string {
	i := strings.IndexAny(filter, "+#")
	if i < 0 {
		return filter
	}
	if filter[i] == '#' && i > 0 {
		return filter[:i-1]
	}
	return filter[:i]
}
