package views

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lanternist/lanternist/suggest"
)

// maxDepth is how deep joins may nest: far beyond any document, well within the stack.
const maxDepth = 16

// maxFields is how many fields one file may have, those that aliases repeat counted each time.
const maxFields = 10_000

// Parse reads the views of one file: one per YAML document, or a list of them. file is only for messages.
// The error is Problems: every mistake that can be seen without the tables. What could be understood is returned
// beside it, so that Compile can find the other mistakes too; it must not be used for anything else.
func Parse(file string, data []byte) ([]*Definition, error) {
	p := &parser{file: file}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var defs []*Definition
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.syntax(err)
			break
		}
		for _, node := range document.Content {
			defs = p.views(defs, node)
		}
	}
	if len(defs) == 0 && len(p.found) == 0 {
		p.addf(file, 1, "no view is declared here")
	}
	return defs, p.err()
}

// parser reads YAML nodes into definitions.
type parser struct {
	problemList
	file   string
	fields int // read so far
}

// fail notes a problem on the node's line.
func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	p.addf(p.file, n.Line, format, args...)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax notes an error of the YAML reader, which names the line in its text.
func (p *parser) syntax(err error) {
	text, line := err.Error(), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	p.addf(p.file, line, "YAML: %s", text)
}

// views appends the view, or the list of views, that a YAML document is.
func (p *parser) views(defs []*Definition, n *yaml.Node) []*Definition {
	n = resolve(n)
	switch {
	case isNull(n):
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			defs = append(defs, p.view(resolve(item)))
		}
	default:
		defs = append(defs, p.view(n))
	}
	return defs
}

// view reads one view.
func (p *parser) view(n *yaml.Node) *Definition {
	def := &Definition{File: p.file, Line: n.Line, node: n}
	sinks := 0
	seen := p.mapping(n, "a view", []string{"view", "from", "fields", "where", "search", "cache"}, func(key, value *yaml.Node) {
		switch key.Value {
		case "view":
			def.Line = key.Line
			def.Name = p.text(value, "view").text
			if def.Name != "" && !isViewName(def.Name) {
				p.fail(value, "view name %q is not a name: lower-case letters, digits and _, a letter first, at most 63 bytes", def.Name)
			}
		case "from":
			def.from = p.text(value, "from")
		case "fields":
			def.fields = p.fieldList(value, 1)
		case "where":
			def.where = p.expr(value, "where")
		case "search":
			def.search = p.search(value)
			sinks++
		case "cache":
			def.cache = p.cache(value)
			sinks++
		}
	})
	for _, needed := range [][2]string{{"view", "name (view: NAME)"}, {"from", "root table (from: TABLE)"}, {"fields", "fields"}} {
		if n.Kind == yaml.MappingNode && !seen[needed[0]] {
			p.fail(n, "view %s has no %s", quoteName(def.Name), needed[1])
		}
	}
	if n.Kind == yaml.MappingNode && sinks == 0 {
		p.fail(n, "view %s goes nowhere: add search:, cache: or both", quoteName(def.Name))
	}
	return def
}

func quoteName(name string) string {
	if name == "" {
		return "without a name"
	}
	return strconv.Quote(name)
}

var viewName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// isViewName says whether name can be part of an index name, a key prefix and a URL as it is.
func isViewName(name string) bool { return viewName.MatchString(name) }

// mapping calls visit for each known key of a mapping and reports all others, and keys that stand twice.
// It returns the keys seen.
func (p *parser) mapping(n *yaml.Node, what string, known []string, visit func(key, value *yaml.Node)) map[string]bool {
	seen := map[string]bool{}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "%s must be a mapping of %s", what, strings.Join(known, ", "))
		return seen
	}
	for key, value := range p.pairs(n) {
		if !slices.Contains(known, key.Value) {
			p.fail(key, "%s has no key %q%s", what, key.Value, meant(key.Value, known))
			continue
		}
		seen[key.Value] = true
		visit(key, value)
	}
	return seen
}

// pairs yields the members of a mapping with aliases resolved, and reports keys that stand twice.
func (p *parser) pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				p.fail(key, "a key must be a word")
				continue
			}
			if line, ok := first[key.Value]; ok {
				p.fail(key, "%q stands twice, first on line %d", key.Value, line)
				continue
			}
			first[key.Value] = key.Line
			if !yield(key, resolve(n.Content[i+1])) {
				return
			}
		}
	}
}

// text reads a scalar that must not be empty.
func (p *parser) text(n *yaml.Node, what string) word {
	if n.Kind != yaml.ScalarNode || isNull(n) || n.Value == "" {
		p.fail(n, "%s must be a word", what)
		return word{line: n.Line}
	}
	return word{n.Value, n.Line}
}

// expr reads a CEL expression.
func (p *parser) expr(n *yaml.Node, what string) *exprDef {
	if n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" || isNull(n) {
		p.fail(n, "%s must be an expression", what)
		return nil
	}
	line := n.Line
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line++ // the text begins below the | or >
	}
	return &exprDef{n.Value, line}
}

// boolean reads true or false.
func (p *parser) boolean(n *yaml.Node, what string) bool {
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "true":
		return true
	case n.Kind == yaml.ScalarNode && n.Value == "false":
		return false
	}
	p.fail(n, "%s must be true or false", what)
	return false
}

// words reads one word or a list of words.
func (p *parser) words(n *yaml.Node, what string) []word {
	if n.Kind != yaml.SequenceNode {
		return []word{p.text(n, what)}
	}
	if len(n.Content) == 0 {
		p.fail(n, "%s is empty", what)
	}
	var list []word
	for _, item := range n.Content {
		list = append(list, p.text(resolve(item), what))
	}
	return list
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// isNull says whether nothing stands there.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// meant is `; did you mean "x"?`, or nothing.
func meant(name string, candidates []string) string {
	if near, ok := suggest.Nearest(name, candidates); ok {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}
