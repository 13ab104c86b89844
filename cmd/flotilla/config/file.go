package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader applies one file to a Config. It walks the nodes itself, since a
// decoder names neither columns nor duplicates of nested keys.
type reader struct {
	name    string
	leaves  map[string]leaf
	keys    map[string][]string // names below a section
	sources map[string]string
	errs    []error
}

// applyFile sets what the file sets and records file:line per key.
func applyFile(c *Config, name string, text []byte, sources map[string]string) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // an empty file sets nothing
		}
		return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: only one YAML document is read: remove the rest", name)
	}
	r := &reader{name: name, leaves: map[string]leaf{}, keys: map[string][]string{}, sources: sources}
	r.know(leaves(c))
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil // nothing but comments
	}
	r.section("", root)
	return errors.Join(r.errs...)
}

// know adds leaves to those that the file may set.
func (r *reader) know(all []leaf) {
	for _, l := range all {
		r.leaves[l.path] = l
		r.addKey(l.path)
	}
}

// addKey notes each part of the path as a name below its section.
func (r *reader) addKey(path string) {
	for {
		i := strings.LastIndexByte(path, '.')
		section, name := "", path
		if i >= 0 {
			section, name = path[:i], path[i+1:]
		}
		if contains(r.keys[section], name) || strings.HasSuffix(name, "]") {
			return // known, or an item of a list, which has no name
		}
		r.keys[section] = append(r.keys[section], name)
		if i < 0 {
			return
		}
		path = section
	}
}

func (r *reader) bad(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d:%d: "+format, append([]any{r.name, n.Line, n.Column}, args...)...))
}

func (r *reader) section(path string, n *yaml.Node) {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		if n.Tag == "!!null" {
			return // "tls:" with nothing below it
		}
		name := path
		if name == "" {
			name = "the file"
		}
		r.bad(n, "%s must be a mapping of keys to values", name)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		full := key.Value
		if path != "" {
			full = path + "." + key.Value
		}
		if line, twice := seen[key.Value]; twice {
			r.bad(key, "duplicate key %q, it stands in line %d already", full, line)
			continue
		}
		seen[key.Value] = key.Line
		r.entry(path, full, key, value)
	}
}

func (r *reader) entry(section, full string, key, value *yaml.Node) {
	if l, ok := r.leaves[full]; ok {
		if m, ok := l.value.Addr().Interface().(mixed); ok && follow(value).Kind == yaml.MappingNode {
			m.enable()
			r.section(full, value)
			return
		}
		r.leaf(l, value)
		return
	}
	if _, ok := r.keys[full]; ok {
		r.section(full, value)
		return
	}
	if planned(full) {
		r.bad(key, "key %q belongs to a later version: remove it", full)
		return
	}
	if near := nearest(key.Value, r.keys[section]); near != "" {
		r.bad(key, "unknown key %q: did you mean %q?", full, near)
		return
	}
	r.bad(key, "unknown key %q", full)
}

func (r *reader) leaf(l leaf, n *yaml.Node) {
	n = follow(n)
	var err error
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		err = errors.New("has no value: give one or remove the key")
	case n.Kind == yaml.SequenceNode && isStructs(l):
		r.structs(l, n)
	case isStructs(l):
		err = errors.New("must be a list of mappings")
	case n.Kind == yaml.ScalarNode && isList(l) && n.Value != "":
		err = l.setList([]string{n.Value})
	case n.Kind == yaml.ScalarNode:
		err = l.setScalar(n)
	case n.Kind == yaml.SequenceNode && isList(l):
		var items []string
		if items, err = r.items(n); err == nil {
			err = l.setList(items)
		}
	default:
		err = errors.New("must be a single value")
		if isList(l) {
			err = errors.New("must be a list: [a, b]")
		}
	}
	if err != nil {
		r.bad(n, "%s: %w", l.path, err)
		return
	}
	r.sources[l.path] = fmt.Sprintf("file %s:%d", r.name, n.Line)
}

// structs reads a list whose items are sections.
func (r *reader) structs(l leaf, n *yaml.Node) {
	items := reflect.MakeSlice(l.value.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		prefix := fmt.Sprintf("%s[%d]", l.path, i)
		if follow(e).Kind != yaml.MappingNode {
			r.bad(e, "%s must be a mapping of keys to values", prefix)
			continue
		}
		r.know(leavesOf(prefix+".", items.Index(i)))
		r.section(prefix, e)
	}
	l.value.Set(items)
}

// setStructs reads such a list from a variable or a flag, where it stands in
// one line of YAML.
func (l leaf) setStructs(text string) error {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	r := &reader{name: "value", leaves: map[string]leaf{}, keys: map[string][]string{}, sources: map[string]string{}}
	if len(doc.Content) == 0 {
		l.value.SetZero()
		return nil
	}
	r.leaf(l, doc.Content[0])
	return errors.Join(r.errs...)
}

func isStructs(l leaf) bool {
	return l.value.Kind() == reflect.Slice && l.value.Type().Elem().Kind() == reflect.Struct
}

// setScalar is setText but for YAML's own idea of a boolean.
func (l leaf) setScalar(n *yaml.Node) error {
	if _, isBool := l.value.Interface().(bool); isBool && n.Tag != "!!bool" {
		return fmt.Errorf("%q is neither true nor false", n.Value)
	}
	return l.setText(n.Value)
}

func (r *reader) items(n *yaml.Node) ([]string, error) {
	items := make([]string, 0, len(n.Content))
	for _, e := range n.Content {
		e = follow(e)
		if e.Kind != yaml.ScalarNode {
			return nil, errors.New("items of the list must be single values")
		}
		items = append(items, e.Value)
	}
	return items, nil
}

func isList(l leaf) bool {
	_, ok := l.value.Interface().([]string)
	return ok
}

// follow resolves an alias to what it names.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
