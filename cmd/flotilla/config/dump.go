package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Dump writes the configuration as a file that could be read again, with the
// source of each value in a comment. Secrets are hidden.
func (r *Result) Dump(w io.Writer) error {
	root := r.section("", reflect.ValueOf(&r.Config).Elem())
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return enc.Close()
}

func (r *Result) section(prefix string, v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("key") == "-" {
			if f.Anonymous {
				n.Content = append(n.Content, r.section(prefix, v.Field(i)).Content...)
			}
			continue
		}
		path := prefix + f.Tag.Get("key")
		if strings.Contains(path, "[") && v.Field(i).IsZero() {
			continue // items of a list say only what is set
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Tag.Get("key")}
		t, _ := v.Field(i).Addr().Interface().(*ListenerTLS)
		if isSection(v.Field(i)) || t != nil && t.Set() {
			n.Content = append(n.Content, key, r.section(path+".", v.Field(i)))
			continue
		}
		n.Content = append(n.Content, key, r.value(leaf{path: path, value: v.Field(i), tag: f.Tag}))
	}
	return n
}

func (r *Result) value(l leaf) *yaml.Node {
	comment := r.Source(l.path)
	if list, ok := l.value.Interface().([]string); ok {
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, LineComment: comment}
		for _, s := range list {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: s})
		}
		return n
	}
	if isStructs(l) {
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if l.value.Len() == 0 {
			n.Style, n.LineComment = yaml.FlowStyle, comment
		}
		for i := range l.value.Len() {
			n.Content = append(n.Content, r.section(fmt.Sprintf("%s[%d].", l.path, i), l.value.Index(i)))
		}
		return n
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: l.text(), LineComment: comment}
	if l.value.Kind() == reflect.String && (n.Value == "" || strings.ContainsAny(n.Value, "\"'") || l.path == "tls.min_version") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
