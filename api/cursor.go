package api

import (
	"encoding/base64"
	"strings"
)

// cursorVersion begins every cursor; another one is not ours.
const cursorVersion = "1"

// encodeCursor hides a position in a list. It names the list, so that a cursor
// of another list is refused instead of being misread.
func encodeCursor(list, position string) string {
	if position == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(cursorVersion + list + "\x00" + position))
}

// decodeCursor is the inverse; ok is false for anything that is not a cursor
// of that list.
func decodeCursor(list, cursor string) (position string, ok bool) {
	if cursor == "" {
		return "", true
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(string(raw), cursorVersion+list+"\x00")
}
