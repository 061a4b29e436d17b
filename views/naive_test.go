package views

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// naive evaluates definitions over plain maps, as literally as it can, to compare with what a Composer makes.
// It shares nothing with the package but the parsed definition: no slots, no mirror, no CEL.
type naive struct {
	w *world
	// exprs says in Go what an expression says in CEL, for the expressions that the test's views have.
	exprs map[string]func(n *naive, doc map[string]any, r record) any
}

// document is the body of a root row as JSON values; nil when there is none.
func (n *naive) document(def *Definition, key string) any {
	r, there := n.w.tables[bare(def.from.text)][key]
	if !there {
		return nil
	}
	doc := n.object(def.fields, bare(def.from.text), r)
	if def.where != nil && n.exprs[def.where.text](n, doc, r) != true {
		return nil
	}
	return doc
}

func bare(name string) string { return strings.TrimPrefix(name, "public.") }

func (n *naive) object(defs []*fieldDef, name string, r record) map[string]any {
	doc := map[string]any{}
	hidden := map[string]bool{}
	for _, f := range defs {
		switch f.kind {
		case columnField:
			doc[f.name.text] = n.scalar(name, f.column.text, r)
		case joinField:
			doc[f.name.text] = n.join(f.join, r)
			hidden[f.name.text] = f.join.hidden
		}
	}
	for _, f := range defs {
		if f.kind == aggregateField {
			doc[f.name.text] = n.aggregate(f, defs, r)
		}
	}
	for _, f := range defs {
		if f.kind == exprField {
			doc[f.name.text] = n.exprs[f.expr.text](n, doc, r)
		}
	}
	for f, is := range hidden {
		if is {
			delete(doc, f)
		}
	}
	return doc
}

// scalar is a column as JSON has it.
func (n *naive) scalar(name, column string, r record) any {
	text, ok := r[column]
	if !ok {
		return nil
	}
	s := n.w.tableNamed(name)
	switch s.Columns[s.Column(column)].Type.Name {
	case "integer", "bigint", "numeric", "double precision":
		return json.Number(text)
	case "boolean":
		return text == "t"
	case "timestamp with time zone":
		return strings.Replace(text, " ", "T", 1) + ":00"
	}
	return text
}

func (n *naive) join(j *joinDef, r record) any {
	rows := n.joined(j, r)
	if j.limit > 0 && len(rows) > j.limit {
		rows = rows[:j.limit]
	}
	list := []any{}
	for _, child := range rows {
		if j.value.text != "" {
			list = append(list, n.scalar(bare(j.table.text), j.value.text, child))
			continue
		}
		list = append(list, n.object(j.fields, bare(j.table.text), child))
	}
	if j.many {
		return list
	}
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// joined is all rows of a join in order, before its limit.
func (n *naive) joined(j *joinDef, r record) []record {
	parents, pairs := []record{r}, j.on
	if j.through.text != "" {
		parents, pairs = n.matching(bare(j.through.text), j.on, r), j.to
	}
	found := map[string]record{}
	s := n.w.tableNamed(bare(j.table.text))
	for _, p := range parents {
		for _, child := range n.matching(s.Name, pairs, p) {
			if j.where == nil || n.exprs[j.where.text](n, nil, child) == true {
				found[keyOf(s, child)] = child
			}
		}
	}
	var rows []record
	for _, child := range found {
		rows = append(rows, child)
	}
	order := slices.Clone(j.orderBy)
	for _, i := range s.Key {
		order = append(order, orderDef{column: word{text: s.Columns[i].Name}})
	}
	slices.SortFunc(rows, func(a, b record) int {
		for _, by := range order {
			x, okX := a[by.column.text]
			y, okY := b[by.column.text]
			switch {
			case !okX && !okY:
				continue
			case !okX:
				return 1
			case !okY:
				return -1
			}
			c := compareAs(s.Columns[s.Column(by.column.text)].Type.Name, x, y)
			if by.descending {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	return rows
}

func (n *naive) matching(name string, pairs []pairDef, parent record) []record {
	var rows []record
next:
	for _, child := range n.w.tables[name] {
		for _, p := range pairs {
			a, okA := child[p.joined.text]
			b, okB := parent[p.from.text]
			if !okA || !okB || a != b {
				continue next
			}
		}
		rows = append(rows, child)
	}
	return rows
}

func compareAs(typ, x, y string) int {
	switch typ {
	case "integer", "bigint", "numeric", "double precision":
		a, _ := new(big.Rat).SetString(x)
		b, _ := new(big.Rat).SetString(y)
		return a.Cmp(b)
	}
	return strings.Compare(x, y)
}

func (n *naive) aggregate(f *fieldDef, siblings []*fieldDef, r record) any {
	name, of, _ := strings.Cut(f.of.text, ".")
	i := slices.IndexFunc(siblings, func(s *fieldDef) bool { return s.name.text == name })
	j := siblings[i].join
	rows := n.joined(j, r)
	if of == "" {
		of = j.value.text
	}
	if f.op.text == "count" && of == "" {
		return json.Number(strconv.Itoa(len(rows)))
	}
	for _, inner := range j.fields {
		if inner.name.text == of && inner.kind == columnField {
			of = inner.column.text
		}
	}
	s := n.w.tableNamed(bare(j.table.text))
	typ := s.Columns[s.Column(of)].Type.Name
	var values []string
	for _, child := range rows {
		if text, ok := child[of]; ok {
			values = append(values, text)
		}
	}
	if f.op.text == "count" {
		return json.Number(strconv.Itoa(len(values)))
	}
	if len(values) == 0 {
		return nil
	}
	if f.op.text == "sum" {
		sum, scale := new(big.Rat), 0
		for _, text := range values {
			v, _ := new(big.Rat).SetString(text)
			sum.Add(sum, v)
			if i := strings.IndexByte(text, '.'); i >= 0 {
				scale = max(scale, len(text)-i-1)
			}
		}
		return json.Number(sum.FloatString(scale))
	}
	slices.SortFunc(values, func(x, y string) int { return compareAs(typ, x, y) })
	best := values[0]
	if f.op.text == "max" {
		best = values[len(values)-1]
	}
	return n.scalar(s.Name, of, record{of: best})
}

// text is a document in a form to compare and to print. Equal numbers of different scale are told apart.
func text(doc any) string {
	if doc == nil {
		return ""
	}
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		panic(fmt.Sprint(doc, err))
	}
	return string(b)
}
