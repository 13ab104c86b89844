package router

import "strings"

// sharePrefix starts a shared subscription. v5:MQTT-4.8.2-1
const sharePrefix = "$share/"

// SplitShare takes a topic filter apart: "$share/group/inner" yields its share
// name, the filter that is matched, and shared = true. Any other filter yields
// itself as inner. It fails with ErrShareName or ErrShareFilter on a filter that
// starts with $share/ and is not a shared subscription. It does not check the
// inner filter otherwise; that is CheckFilter's task.
func SplitShare(filter string) (group, inner string, shared bool, err error) {
	rest, ok := strings.CutPrefix(filter, sharePrefix)
	if !ok {
		return "", filter, false, nil
	}
	group, inner, ok = strings.Cut(rest, "/")
	if group == "" || strings.ContainsAny(group, "+#") {
		return "", "", true, ErrShareName
	}
	// The inner filter has the syntax of a non-shared subscription: no nesting.
	if !ok || inner == "" || strings.HasPrefix(inner, sharePrefix) {
		return "", "", true, ErrShareFilter
	}
	return group, inner, true, nil
}

// JoinShare spells the shared subscription of group to inner. It is the inverse
// of SplitShare and the key of the share: its slot is Slot(tenant, JoinShare(...)).
func JoinShare(group, inner string) string {
	return sharePrefix + group + "/" + inner
}
