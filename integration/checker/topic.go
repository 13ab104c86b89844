package checker

import "strings"

// matches is the topic matching of the specification, written for clarity: the checker must not share code with what it
// checks. Of a shared subscription it gets the part after the share's name.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	// v311:MQTT-4.7.2-1
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

// splitShare takes $share/NAME/FILTER apart.
func splitShare(filter string) (inner string, shared bool) {
	rest, shared := strings.CutPrefix(filter, "$share/")
	if !shared {
		return filter, false
	}
	_, inner, shared = strings.Cut(rest, "/")
	return inner, shared
}
