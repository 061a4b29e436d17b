package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/views"
)

// Deployment is what is captured and shown, as it is or as a configuration wants it.
type Deployment struct {
	Tables     []Table     `json:"tables"`
	Projectors []Projector `json:"projectors"`
	// Settings are those that a daemon reads once, at its start. Secrets are masked.
	Settings []Setting `json:"settings,omitempty"`
}

// Table is a captured table.
type Table struct {
	OID  uint32 `json:"oid"` // what it is known by: a table that was dropped and made again is another one
	Name string `json:"name"`
	Rows int64  `json:"rows" doc:"About how many it has; -1 when that is not known."`
}

// Projector is one view in one sink.
type Projector struct {
	Name   string   `json:"name"` // "order_summary.search"
	View   string   `json:"view"`
	Sink   string   `json:"sink"`
	Hash   string   `json:"hash" doc:"Of the definition that readers see documents of."`
	Root   uint32   `json:"root" doc:"The table that has a row for each document."`
	Tables []uint32 `json:"tables" doc:"Those that the documents are made of, the root among them."`
	// Indexes are those of the mirror that the view needs.
	Indexes []Index `json:"indexes,omitempty"`
	// Outline is what the definition says.
	Outline []views.Line `json:"outline,omitempty"`
	// Generations are those that the sink holds, as far as that is known.
	Generations []int `json:"generations,omitempty"`
}

// Index is an index of the mirror.
type Index struct {
	OID     uint32   `json:"oid"`
	Columns []string `json:"columns"`
}

func (ix Index) compare(other Index) int {
	return cmp.Or(cmp.Compare(ix.OID, other.OID), slices.Compare(ix.Columns, other.Columns))
}

// Setting is a setting with the value in force, as it may be shown.
type Setting struct {
	Name  string `json:"name"` // "http.listen"
	Value string `json:"value"`
}

// Describe is the part of a projector that its view says.
func Describe(v *views.View, sink string) Projector {
	p := Projector{
		Name: v.Name() + "." + sink, View: v.Name(), Sink: sink, Hash: v.Hash(), Root: v.Root().OID,
		Tables: v.Tables(), Outline: v.Outline(),
	}
	for _, ix := range v.Indexes() {
		p.Indexes = append(p.Indexes, Index{OID: ix.OID, Columns: ix.Columns})
	}
	return p
}

// table is the name of a table.
func (d *Deployment) table(oid uint32) (Table, bool) {
	i := slices.IndexFunc(d.Tables, func(t Table) bool { return t.OID == oid })
	if i < 0 {
		return Table{OID: oid, Rows: -1}, false
	}
	return d.Tables[i], true
}

// projector finds a projector by name.
func (d *Deployment) projector(name string) (Projector, bool) {
	i := slices.IndexFunc(d.Projectors, func(p Projector) bool { return p.Name == name })
	if i < 0 {
		return Projector{}, false
	}
	return d.Projectors[i], true
}

// indexes lists the indexes that the projectors need, each once, sorted.
func (d *Deployment) indexes() []Index {
	var all []Index
	for _, p := range d.Projectors {
		all = append(all, p.Indexes...)
	}
	slices.SortFunc(all, Index.compare)
	return slices.CompactFunc(all, func(a, b Index) bool { return a.compare(b) == 0 })
}

// viewsOf lists the views that depend on a table, each once, sorted.
func (d *Deployment) viewsOf(oid uint32) []string {
	var names []string
	for _, p := range d.Projectors {
		if slices.Contains(p.Tables, oid) {
			names = append(names, p.View)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return slices.Compact(names)
}
