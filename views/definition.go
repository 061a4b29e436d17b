package views

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// Definition is one view as declared, not yet checked against any table.
type Definition struct {
	Name string
	File string
	Line int

	node   *yaml.Node
	from   word
	fields []*fieldDef
	where  *exprDef
	search *searchDef
	cache  *cacheDef
}

// Source is the definition by itself, as a text that Parse reads as the same definition, in a file of its own: it stands for no
// comment, and needs no anchor of another view. It is "" when it would have more than 256 KiB.
func (d *Definition) Source() string {
	if d.node == nil {
		return ""
	}
	return sourceOf(d.node)
}

// word is a piece of text and the line it stands on.
type word struct {
	text string
	line int
}

// fieldKind tells what a field of a definition is.
type fieldKind uint8

const (
	columnField fieldKind = iota
	joinField
	aggregateField
	exprField
)

// fieldDef is one member of a fields mapping.
type fieldDef struct {
	name word
	kind fieldKind
	as   string

	column word     // columnField
	join   *joinDef // joinField
	op     word     // aggregateField: count, sum, min or max
	of     word     // aggregateField: "items" or "items.price"
	expr   *exprDef // exprField
}

// joinDef is a one or many join.
type joinDef struct {
	many    bool
	table   word
	through word // link table, or ""
	on      []pairDef
	to      []pairDef
	fields  []*fieldDef
	value   word // the one column whose values the list has, or ""
	orderBy []orderDef
	limit   int // 0 is none
	where   *exprDef
	hidden  bool
}

// pairDef is one line of on or to: a column of the table being joined equals one of the table joined from.
type pairDef struct {
	joined word
	from   word
}

// orderDef is one column of order_by.
type orderDef struct {
	column     word
	descending bool
}

// exprDef is a CEL expression. line is where its text begins.
type exprDef struct {
	text string
	line int
}

type searchDef struct {
	options SearchOptions
}

type cacheDef struct {
	ttl     time.Duration
	lookups [][]word
}
