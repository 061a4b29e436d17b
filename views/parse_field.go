package views

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	scalarKeys    = []string{"column", "as"}
	exprKeys      = []string{"cel", "as"}
	joinKeys      = []string{"one", "many", "on", "through", "to", "fields", "value", "order_by", "limit", "where", "hidden"}
	aggregateKeys = []string{"count", "sum", "min", "max", "as"}
	fieldKeys     = append(append(append([]string{}, scalarKeys...), "cel", "count", "sum", "min", "max"), joinKeys...)
)

// fieldList reads a fields mapping.
func (p *parser) fieldList(n *yaml.Node, depth int) []*fieldDef {
	if n.Kind != yaml.MappingNode {
		p.fail(n, "fields must be a mapping of names to fields")
		return nil
	}
	if depth > maxDepth {
		p.fail(n, "joins nest deeper than %d", maxDepth)
		return nil
	}
	if len(n.Content) == 0 {
		p.fail(n, "fields is empty")
	}
	var list []*fieldDef
	for key, value := range p.pairs(n) {
		if p.fields++; p.fields > maxFields {
			if p.fields == maxFields+1 {
				p.fail(key, "more than %d fields", maxFields)
			}
			return nil
		}
		if key.Value == "" || strings.ContainsAny(key.Value, ".\x00") {
			p.fail(key, "%q cannot be the name of a field: it is empty or has a dot in it", key.Value)
			continue
		}
		if f := p.field(word{key.Value, key.Line}, value, depth); f != nil {
			list = append(list, f)
		}
	}
	return list
}

// field reads one member of a fields mapping. What it is shows in its keys.
func (p *parser) field(name word, n *yaml.Node, depth int) *fieldDef {
	f := &fieldDef{name: name, column: name}
	if isNull(n) {
		return f
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "field %q must be empty (the column of that name) or a mapping, such as {column: %s}", name.text, n.Value)
		return nil
	}
	has := func(key string) bool {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return true
			}
		}
		return false
	}
	what := "field " + strconv.Quote(name.text)
	switch {
	case has("one") || has("many"):
		f.kind = joinField
		f.join = p.join(what, n, depth)
	case has("cel"):
		f.kind = exprField
		p.mapping(n, what, exprKeys, func(key, value *yaml.Node) {
			if key.Value == "as" {
				f.as = p.text(value, "as").text
				return
			}
			f.expr = p.expr(value, "cel")
		})
		if f.expr == nil {
			return nil
		}
	case has("count") || has("sum") || has("min") || has("max"):
		f.kind = aggregateField
		p.mapping(n, what, aggregateKeys, func(key, value *yaml.Node) {
			if key.Value == "as" {
				f.as = p.text(value, "as").text
				return
			}
			if f.op.text != "" {
				p.fail(key, "%s is both %s and %s", what, f.op.text, key.Value)
			}
			f.op = word{key.Value, key.Line}
			f.of = p.text(value, key.Value)
		})
		if f.of.text == "" {
			return nil
		}
	default:
		known := scalarKeys
		for i := 0; i < len(n.Content); i += 2 {
			if !slices.Contains(known, n.Content[i].Value) {
				known = fieldKeys // the kind is not clear: suggest from all
			}
		}
		p.mapping(n, what, known, func(key, value *yaml.Node) {
			switch key.Value {
			case "column":
				f.column = p.text(value, "column")
			case "as":
				f.as = p.text(value, "as").text
			default:
				p.fail(key, "%s has %s, but neither one nor many", what, key.Value)
			}
		})
	}
	return f
}

// join reads a one or many join.
func (p *parser) join(what string, n *yaml.Node, depth int) *joinDef {
	j := &joinDef{}
	seen := p.mapping(n, what, joinKeys, func(key, value *yaml.Node) {
		switch key.Value {
		case "one", "many":
			if j.table.text != "" {
				p.fail(key, "%s is both one and many", what)
			}
			j.many = key.Value == "many"
			j.table = p.text(value, key.Value)
		case "on":
			j.on = p.columnPairs(value, "on")
		case "through":
			j.through = p.text(value, "through")
		case "to":
			j.to = p.columnPairs(value, "to")
		case "fields":
			j.fields = p.fieldList(value, depth+1)
		case "value":
			j.value = p.text(value, "value")
		case "order_by":
			j.orderBy = p.orderBy(value)
		case "limit":
			j.limit = p.limit(value)
		case "where":
			j.where = p.expr(value, "where")
		case "hidden":
			j.hidden = p.boolean(value, "hidden")
		}
	})
	p.checkJoin(what, n, j, seen)
	return j
}

// checkJoin reports keys of a join that are missing or do not go together.
func (p *parser) checkJoin(what string, n *yaml.Node, j *joinDef, seen map[string]bool) {
	if !seen["on"] {
		p.fail(n, "%s has no on: which columns of %s equal which of the table it is joined to", what, j.table.text)
	}
	if seen["through"] != seen["to"] {
		p.fail(n, "%s needs both through (the link table) and to (columns of %s and of the link table), or neither", what, j.table.text)
	}
	if seen["fields"] && seen["value"] {
		p.fail(n, "%s has both fields and value", what)
	}
	if !seen["fields"] && !seen["value"] && !j.hidden {
		p.fail(n, "%s has neither fields nor value; a join only for aggregates is hidden: true", what)
	}
	if seen["limit"] && !j.many {
		p.fail(n, "%s has a limit, but is a one join", what)
	}
}

// columnPairs reads the mapping of on or to.
func (p *parser) columnPairs(n *yaml.Node, what string) []pairDef {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.fail(n, "%s must be a mapping of columns, such as {order_id: id}", what)
		return nil
	}
	var list []pairDef
	for key, value := range p.pairs(n) {
		list = append(list, pairDef{joined: word{key.Value, key.Line}, from: p.text(value, what)})
	}
	return list
}

// orderBy reads one column or a list of columns, each with "-" before it for descending order.
func (p *parser) orderBy(n *yaml.Node) []orderDef {
	var list []orderDef
	for _, w := range p.words(n, "order_by") {
		name, descending := strings.CutPrefix(w.text, "-")
		list = append(list, orderDef{word{name, w.line}, descending})
	}
	return list
}

// limit reads a positive number.
func (p *parser) limit(n *yaml.Node) int {
	limit, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || limit < 1 {
		p.fail(n, "limit must be a number of at least 1")
		return 0
	}
	return limit
}
