package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Setting is one setting with the value in force, as it may be shown.
type Setting struct {
	Name  string // "http.listen"
	Value string
}

// changeable are the settings, with all below them, that a running daemon takes over from its file.
var changeable = map[string]bool{"source.tables": true, "views.files": true}

// Settings lists the settings that a daemon reads once, at its start, in the order of the file's sections. A secret is shown as it
// is in Masked: that another value stands behind the same reference does not show.
func (c *Config) Settings() ([]Setting, error) {
	text, err := c.Masked()
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	var all []Setting
	var walk func(n *yaml.Node, name string)
	walk = func(n *yaml.Node, name string) {
		switch {
		case changeable[name]:
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				below := n.Content[i].Value
				if name != "" {
					below = name + "." + below
				}
				walk(n.Content[i+1], below)
			}
		case n.Kind == yaml.SequenceNode:
			for i, item := range n.Content {
				walk(item, fmt.Sprintf("%s[%d]", name, i))
			}
		case n.Tag != "!!null":
			all = append(all, Setting{Name: name, Value: n.Value})
		}
	}
	for _, n := range doc.Content {
		walk(n, "")
	}
	return all, nil
}
