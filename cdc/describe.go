package cdc

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

// describe makes the definition of a table that the stream sent. Columns, their order and their types are the
// stream's, which may be older than the catalog. What the stream does not say (the meaning of types, not-null, the columns'
// numbers, the order of the key) is that of the definition with the same columns: the catalog's, or one that was known
// before, the newest last. Without one it is put together; numbers that are not certain are left out.
func describe(ctx context.Context, conn *pgx.Conn, publication string, rel relation, known []*row.Schema) (*row.Schema, error) {
	definitions, err := loadDefinitions(ctx, conn, publication, []uint32{rel.oid})
	if err != nil {
		return nil, err
	}
	table := &row.Schema{OID: rel.oid, Namespace: rel.namespace, Name: rel.name, Identity: rel.identity}
	var oids []uint32
	for _, c := range rel.columns {
		oids = append(oids, c.typ)
	}
	types, err := loadTypes(ctx, conn, oids)
	if err != nil {
		return nil, err
	}
	for _, c := range rel.columns {
		table.Columns = append(table.Columns, row.Column{Name: c.name, Type: types.column(c.typ, c.mod)})
	}
	var candidates []*row.Schema
	if now := definitions[rel.oid]; now != nil {
		candidates = append(candidates, now)
	}
	for _, s := range slices.Backward(known) {
		candidates = append(candidates, s)
	}
	if same := slices.IndexFunc(candidates, func(s *row.Schema) bool { return sameShape(table, s) }); same >= 0 {
		adopt(table, candidates[same])
	} else {
		deduce(table, candidates)
	}
	table.Key = streamKey(rel, table, candidates)
	return table, nil
}

// sameShape says whether two definitions have columns of the same names and types in the same order.
func sameShape(a, b *row.Schema) bool {
	return slices.EqualFunc(a.Columns, b.Columns, func(a, b row.Column) bool { return sameColumn(&a, &b) })
}

func sameColumn(a, b *row.Column) bool {
	return a.Name == b.Name && a.Type.OID == b.Type.OID && a.Type.Mod == b.Type.Mod
}

// adopt takes over what the stream does not say from a definition of the same shape.
func adopt(table, from *row.Schema) {
	table.Width = from.Width
	for i := range table.Columns {
		c, f := &table.Columns[i], &from.Columns[i]
		c.NotNull, c.Number, c.Missing = f.NotNull, f.Number, f.Missing
	}
}

// deduce numbers the columns of a definition that was true for a while, between those that are known: each column must be
// that of one number only, and the numbers must go up. Else none is numbered.
func deduce(table *row.Schema, candidates []*row.Schema) {
	numbers := make([]int16, len(table.Columns))
	last := int16(0)
	for i := range table.Columns {
		c := &table.Columns[i]
		for _, s := range candidates {
			at := slices.IndexFunc(s.Columns, func(have row.Column) bool { return sameColumn(&have, c) })
			if at < 0 {
				continue
			}
			have := &s.Columns[at]
			if numbers[i] == 0 {
				numbers[i] = have.Number
				c.NotNull, c.Missing = have.NotNull, have.Missing
			}
			if have.Number != numbers[i] {
				last = -1
			}
		}
		if last < 0 || numbers[i] <= last {
			last = -1
			break
		}
		last = numbers[i]
	}
	if last < 0 {
		for i := range table.Columns {
			table.Columns[i].Missing = nil
		}
		return
	}
	width := last
	for _, s := range candidates[min(1, len(candidates)):] { // what is known from before is not newer than the stream
		if s.Width > 0 {
			width = max(width, s.Width)
			break
		}
	}
	table.Width = width
	for i := range table.Columns {
		table.Columns[i].Number = numbers[i]
	}
}

// streamKey is the key that a candidate has and the stream does not contradict, else what the stream marks as replica
// identity.
func streamKey(rel relation, table *row.Schema, candidates []*row.Schema) []int {
	var marked []int
	for i, c := range rel.columns {
		if c.isKey {
			marked = append(marked, i)
		}
	}
	for _, s := range candidates {
		key := make([]int, 0, len(s.Key))
		for _, i := range s.Key {
			if j := table.Column(s.Columns[i].Name); j >= 0 {
				key = append(key, j)
			}
		}
		if len(key) == 0 || len(key) < len(s.Key) {
			continue
		}
		if rel.identity != 'd' || sameSet(key, marked) {
			return key
		}
	}
	if rel.identity == 'f' {
		return nil // everything is marked
	}
	return marked
}

// sameSet says whether the ascending marked are the places of a key, in whatever order.
func sameSet(key, marked []int) bool { return slices.Equal(slices.Sorted(slices.Values(key)), marked) }
