package views

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/suggest"
)

// Conflicts says what of the tables' newest definitions the view cannot go on with, or could not be compiled against and mean
// the same: a table or a column that it uses is gone, has another name or type, or the key is another one. latest has the
// newest definition of each table by OID, nil for one that is gone; a table that it does not have is as it was. Each conflict
// names file and line of the view's definition, and what was probably meant.
func (v *View) Conflicts(latest map[uint32]*row.Schema) Problems {
	var problems problemList
	for _, o := range v.objects {
		now, changed := latest[o.schema.OID]
		if !changed || now == o.schema {
			continue
		}
		v.conflicts(o, now, &problems)
	}
	_ = problems.err() // sorts them
	return slices.Compact(problems.found)
}

func (v *View) conflicts(o *object, now *row.Schema, problems *problemList) {
	was := o.schema.QualifiedName()
	fail := func(line int, format string, args ...any) {
		if line == 0 {
			line = o.line
		}
		problems.addf(v.file, line, format, args...)
	}
	if now == nil {
		fail(o.line, "table %s is not there any more", was)
		return
	}
	if now.QualifiedName() != was {
		fail(o.line, "table %s is now %s; did you mean %q?", was, now.QualifiedName(), now.QualifiedName())
	}
	if before, after := keyColumns(o.schema), keyColumns(now); len(now.Key) == 0 {
		fail(o.line, "table %s has no primary key any more, and no replica identity index in its place", was)
	} else if !sameKeyColumns(o.schema, now) {
		fail(o.line, "the key of %s was %v and is now %v", was, before, after)
	}
	for i := range o.slots {
		s := &o.slots[i]
		at, presence := now.Place(&s.column)
		if presence == row.Dropped || presence == row.Nameless {
			if at = now.Column(s.name); at < 0 {
				fail(s.line, "column %q of %s is not there any more%s", s.name, was, suggest.Hint(s.name, columnNames(now)))
				continue
			}
		}
		if at < 0 {
			continue // added later than what is called the newest
		}
		c := &now.Columns[at]
		if c.Name != s.name {
			fail(s.line, "column %q of %s was renamed; did you mean %q?", s.name, was, c.Name)
		}
		if !shownAlike(&s.typ, &c.Type) {
			fail(s.line, "column %q of %s was %s and is now %s", s.name, was, typeText(&s.typ), typeText(&c.Type))
		}
	}
}

// keyColumns names the key's columns.
func keyColumns(s *row.Schema) []string {
	names := make([]string, len(s.Key))
	for i, at := range s.Key {
		names[i] = s.Columns[at].Name
	}
	return names
}

// sameKeyColumns says whether the keys are of the same columns; one that was renamed is told of by itself.
func sameKeyColumns(was, now *row.Schema) bool {
	return slices.EqualFunc(was.Key, now.Key, func(a, b int) bool {
		at, presence := now.Place(&was.Columns[a])
		return presence == row.Present && at == b || was.Columns[a].Name == now.Columns[b].Name
	})
}

// shownAlike says whether a document shows values of both types alike. Of types with a name of their own that is so when they are of the
// same base: a domain may be renamed, or have another put in its place. Built-in types of one class may need other fields in an index.
func shownAlike(a, b *row.Type) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Class != b.Class || a.Mod != b.Mod || a.Delim != b.Delim {
		return false
	}
	switch a.Class {
	case row.Array:
		return shownAlike(a.Elem, b.Elem)
	case row.Enum, row.Composite, row.Range, row.Other:
		return a.OID == b.OID
	}
	return a.Name == b.Name || strings.Contains(a.Name, ".") && strings.Contains(b.Name, ".")
}

// typeText is a type as a person knows it, with its modifier when that is what may differ.
func typeText(t *row.Type) string {
	if t.Mod < 0 {
		return t.Name
	}
	return t.Name + modifier(t)
}

// modifier is a type's modifier as it is written, as far as it is known how.
func modifier(t *row.Type) string {
	const header = 4
	mod := t.Mod - header
	switch {
	case t.Class == row.String && mod >= 0:
		return fmt.Sprintf("(%d)", mod)
	case t.Class == row.Numeric && mod >= 0:
		return fmt.Sprintf("(%d,%d)", mod>>16&0xffff, int16(mod&0x7ff^0x400-0x400))
	}
	return fmt.Sprintf("(%d)", t.Mod)
}
