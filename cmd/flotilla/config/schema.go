package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Key is one leaf of Config.
type Key struct {
	Path string // dotted, as in --set
	Flag string // name of its flag, or empty
	Arg  string // placeholder of the flag's value; empty for a boolean
	Help string
	Env  string // FLOTILLA_<PATH>
	// Bool and List are how flags take their values.
	Bool, List bool
}

// EnvPrefix begins the name of every variable.
const EnvPrefix = "FLOTILLA_"

// EnvName is the variable of a key.
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// Keys lists all keys in the order of the file.
func Keys() []Key {
	var keys []Key
	c := Default()
	for _, l := range leaves(&c) {
		kind := l.value.Kind()
		keys = append(keys, Key{
			Path: l.path, Flag: l.tag.Get("flag"), Arg: l.tag.Get("arg"), Help: l.tag.Get("help"),
			Env: EnvName(l.path), Bool: kind == reflect.Bool, List: kind == reflect.Slice,
		})
	}
	return keys
}

// leaf is a field of a Config that holds a value.
type leaf struct {
	path  string
	value reflect.Value
	tag   reflect.StructTag
}

// leaves walks c in the order of declaration.
func leaves(c *Config) []leaf { return leavesOf("", reflect.ValueOf(c).Elem()) }

// leavesOf walks a struct of keys.
func leavesOf(prefix string, v reflect.Value) []leaf {
	var out []leaf
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("key") == "-" {
			if f.Anonymous {
				out = append(out, leavesOf(prefix, v.Field(i))...)
			}
			continue
		}
		path := prefix + f.Tag.Get("key")
		section := isSection(v.Field(i))
		if !section {
			out = append(out, leaf{path: path, value: v.Field(i), tag: f.Tag})
		}
		if section || isMixed(v.Field(i)) {
			out = append(out, leavesOf(path+".", v.Field(i))...)
		}
	}
	return out
}

// isSection tells a struct of keys from a leaf that parses itself.
func isSection(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	_, leaf := v.Addr().Interface().(encoding.TextUnmarshaler)
	return !leaf
}

// mixed is a leaf that may be written as a section, too.
type mixed interface {
	encoding.TextUnmarshaler
	enable() // it was written as a section
}

func isMixed(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(mixed)
	return ok
}

// planned names keys of later versions, so that they are refused with a reason.
func planned(path string) bool {
	switch path {
	case "auth.acl", "tls.crl", "tls.identity":
		return true
	}
	return false
}

// setText gives a leaf the value that stands in text: from a variable, a flag,
// --set, or a scalar of the file.
func (l leaf) setText(text string) error {
	if u, ok := l.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch l.value.Kind() {
	case reflect.String:
		if oneof := l.tag.Get("oneof"); oneof != "" && !contains(strings.Fields(oneof), text) {
			return fmt.Errorf("%q is not one of %s", text, strings.ReplaceAll(oneof, " ", ", "))
		}
		l.value.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		l.value.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not a number from 0", text)
		}
		l.value.SetInt(n)
	case reflect.Slice:
		if isStructs(l) {
			return l.setStructs(text)
		}
		return l.setList(splitList(text))
	default:
		return fmt.Errorf("a value of kind %s cannot be set", l.value.Kind())
	}
	return nil
}

func (l leaf) setList(items []string) error {
	for _, item := range items {
		if item == "" {
			return fmt.Errorf("an item of the list is empty")
		}
	}
	if len(items) == 0 {
		items = nil // an empty list is none
	}
	l.value.Set(reflect.ValueOf(items))
	return nil
}

// splitList splits at commas; brackets of a YAML list may stand around it.
func splitList(text string) []string {
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		text = text[1 : len(text)-1]
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// text is the value as the file would have it.
func (l leaf) text() string {
	if s, ok := l.value.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	if list, ok := l.value.Interface().([]string); ok {
		return "[" + strings.Join(list, ", ") + "]"
	}
	if isStructs(l) {
		return fmt.Sprintf("[%d items]", l.value.Len())
	}
	return fmt.Sprint(l.value.Interface())
}

// nearest returns the known name that text most likely means, or nothing.
func nearest(text string, known []string) string {
	best, bestCost := "", 3
	for _, k := range known {
		if cost := distance(text, k); cost < bestCost {
			best, bestCost = k, cost
		}
	}
	return best
}

// distance is the number of edits between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
