package config

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Views says which files declare views, and what becomes of one that changes. In YAML a list of files is enough.
type Views struct {
	// Files are paths or patterns, relative to the configuration. At least one.
	Files []string `yaml:"files"`
	// AutoRebuild builds a view by its new definition when that has changed; else a rebuild must be asked for. Default true.
	AutoRebuild *bool `yaml:"auto_rebuild"`
}

// viewsForms are the ways to write Views, for messages.
const viewsForms = "a list of files, [views/*.yaml], or a mapping, {files: [views/*.yaml], auto_rebuild: true}"

// UnmarshalYAML implements yaml.Unmarshaler.
func (v *Views) UnmarshalYAML(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.SequenceNode:
		return n.Decode(&v.Files)
	case n.Kind == yaml.MappingNode:
		type plain Views
		return n.Decode((*plain)(v))
	case n.Tag == "!!null":
		return nil
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: views must be %s", n.Line, viewsForms)}}
}

// shorthand is the type of what stands in the place of a mapping; the type itself when there is no short form.
func shorthand(n *yaml.Node, t reflect.Type) reflect.Type {
	if t == reflect.TypeFor[Views]() && n.Kind == yaml.SequenceNode {
		return reflect.TypeFor[[]string]()
	}
	return t
}
