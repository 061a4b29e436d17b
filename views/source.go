package views

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// sourceMax bounds the text that a definition gives of itself, in bytes. It is far more than a view has that a person writes.
const sourceMax = 256 << 10

// sourceOf is a text that Parse reads as the same definition: the view's part of its file, without comments, and with what its
// aliases stand for. A view whose part is too large, or no YAML by itself, has none.
func sourceOf(n *yaml.Node) string {
	own := standalone(n)
	if own == nil {
		return ""
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encodeNode(encoder, own); err != nil || text.Len() > sourceMax {
		return ""
	}
	return text.String()
}

// encodeNode is Encode, of which a tree of nodes that no YAML could be makes a panic.
func encodeNode(encoder *yaml.Encoder, n *yaml.Node) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("encode: %v", cause)
		}
	}()
	if err := encoder.Encode(n); err != nil {
		return err
	}
	return encoder.Close()
}

// standalone copies a node so that it needs nothing else of its document; nil when that has more nodes than a text of
// sourceMax could have.
func standalone(n *yaml.Node) *yaml.Node {
	left := sourceMax
	var copied func(n *yaml.Node) *yaml.Node
	copied = func(n *yaml.Node) *yaml.Node {
		if left--; left < 0 {
			return nil
		}
		n = resolve(n)
		own := &yaml.Node{Kind: n.Kind, Style: n.Style, Tag: n.Tag, Value: n.Value}
		if isNull(own) {
			own.Value, own.Style = "null", 0 // nothing at all would be read as text in some places
		}
		for _, child := range n.Content {
			c := copied(child)
			if c == nil {
				return nil
			}
			own.Content = append(own.Content, c)
		}
		return own
	}
	return copied(n)
}
