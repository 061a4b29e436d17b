package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/suggest"
)

// LoadCatalog describes tables as the stream will: columns in the order in which they are sent, without
// generated ones, with keys and types. The names are those of Config.Tables; each table comes once, in the order
// of the names, those of a pattern by name. Every name without a table is an error, with the nearest one that
// exists; all such errors are returned together.
//
// A publication may leave out columns; LoadPublished takes that into account.
func LoadCatalog(ctx context.Context, conn *pgx.Conn, tables []string) ([]*row.Schema, error) {
	return LoadPublished(ctx, conn, "", tables)
}

// LoadPublished is LoadCatalog for tables in a publication: only the columns that it sends. A publication that
// does not exist, or does not have the table, sends them all.
func LoadPublished(ctx context.Context, conn *pgx.Conn, publication string, tables []string) ([]*row.Schema, error) {
	names, err := parseTables(tables)
	if err != nil {
		return nil, err
	}
	relations, err := listRelations(ctx, conn)
	if err != nil {
		return nil, err
	}
	found, err := relations.find(names)
	if err != nil {
		return nil, err
	}
	definitions, err := loadDefinitions(ctx, conn, publication, oidsOf(found))
	if err != nil {
		return nil, err
	}
	schemas := make([]*row.Schema, 0, len(found))
	for _, rel := range found {
		if d := definitions[rel.oid]; d != nil {
			schemas = append(schemas, d)
		}
	}
	return schemas, nil
}

// catalogRelation is what a name in the configuration may stand for.
type catalogRelation struct {
	oid         uint32
	name        tableName
	kind        string // pg_class.relkind
	persistence string // pg_class.relpersistence
	isPartition bool
	rowSecurity bool
	identity    string // pg_class.relreplident
	owner       string
}

// capturable says whether a pattern includes the relation: what can be published as a table of its own.
func (r catalogRelation) capturable() bool {
	return (r.kind == "r" || r.kind == "p") && r.persistence == "p" && !r.isPartition
}

// catalogRelations are the relations of the database outside of the system's schemas, ordered by name.
type catalogRelations []catalogRelation

func listRelations(ctx context.Context, conn *pgx.Conn) (catalogRelations, error) {
	rows, err := conn.Query(ctx, `
		SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relispartition,
		       c.relrowsecurity, c.relreplident::text, pg_get_userbyid(c.relowner)::text
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
		   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
		 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c catalogRelation, err error) {
		err = r.Scan(&c.oid, &c.name.Namespace, &c.name.Name, &c.kind, &c.persistence, &c.isPartition, &c.rowSecurity, &c.identity, &c.owner)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return all, nil
}

// lookup is the relation of that name.
func (all catalogRelations) lookup(name tableName) (catalogRelation, bool) {
	i := slices.IndexFunc(all, func(r catalogRelation) bool { return r.name == name })
	if i < 0 {
		return catalogRelation{}, false
	}
	return all[i], true
}

// matches are the relations that a pattern includes.
func (all catalogRelations) matches(pattern tableName) (found catalogRelations) {
	for _, r := range all {
		if r.name.Namespace == pattern.Namespace && r.capturable() {
			found = append(found, r)
		}
	}
	return found
}

// missing says that no relation has the name, and which one may have been meant.
func (all catalogRelations) missing(name tableName) error {
	if name.isPattern() {
		var namespaces []string
		for _, r := range all {
			namespaces = append(namespaces, r.name.Namespace)
		}
		return fmt.Errorf("schema %s has no tables that can be captured%s", name.Namespace, suggest.Hint(name.Namespace, slices.Compact(namespaces)))
	}
	var names []string
	for _, r := range all {
		names = append(names, r.name.String())
	}
	return fmt.Errorf("table %s does not exist%s", name, suggest.Hint(name.String(), names))
}

// find resolves names and patterns, each relation once. It reports everything that cannot be found.
func (all catalogRelations) find(names []tableName) (catalogRelations, error) {
	var found catalogRelations
	var errs []error
	seen := map[uint32]bool{}
	for _, name := range names {
		var these catalogRelations
		if name.isPattern() {
			these = all.matches(name)
		} else if r, ok := all.lookup(name); ok {
			these = catalogRelations{r}
		}
		if len(these) == 0 {
			errs = append(errs, all.missing(name))
		}
		for _, r := range these {
			if !seen[r.oid] {
				seen[r.oid] = true
				found = append(found, r)
			}
		}
	}
	return found, errors.Join(errs...)
}

func oidsOf(relations catalogRelations) []uint32 {
	oids := make([]uint32, len(relations))
	for i, r := range relations {
		oids[i] = r.oid
	}
	return oids
}

// loadDefinitions describes tables by OID; those that do not exist are left out.
func loadDefinitions(ctx context.Context, conn *pgx.Conn, publication string, oids []uint32) (map[uint32]*row.Schema, error) {
	version, err := serverVersion(conn.PgConn())
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, columnsQuery(version), oids, publication)
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	schemas := map[uint32]*row.Schema{}
	keys := map[uint32][]int16{}
	var types []uint32
	var s row.Schema
	var identity string
	var key []int16
	var c row.Column
	var sent, generated bool
	_, err = pgx.ForEachRow(rows, []any{&s.OID, &s.Namespace, &s.Name, &identity, &s.Width, &key, &c.Number, &c.Name, &c.Type.OID, &c.Type.Mod, &c.NotNull, &c.Missing, &sent, &generated}, func() error {
		table := schemas[s.OID]
		if table == nil {
			table = &row.Schema{OID: s.OID, Namespace: s.Namespace, Name: s.Name, Identity: identity[0], Width: s.Width}
			schemas[s.OID], keys[s.OID] = table, slices.Clone(key)
		}
		if !sent {
			table.Unsent = append(table.Unsent, row.Unsent{Name: c.Name, Generated: generated})
			return nil
		}
		table.Columns = append(table.Columns, c)
		types = append(types, c.Type.OID)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	known, err := loadTypes(ctx, conn, types)
	if err != nil {
		return nil, err
	}
	for oid, table := range schemas {
		if len(table.Columns) == 0 {
			delete(schemas, oid)
			continue
		}
		for i := range table.Columns {
			t := &table.Columns[i].Type
			*t = known.column(t.OID, t.Mod)
		}
		table.Key = indexesOf(keys[oid], table.Columns)
	}
	return schemas, nil
}

// columnsQuery reads the columns of tables $1, and whether publication $2 sends them, with the primary key, else the
// replica identity index, of each table.
func columnsQuery(version int) string {
	published := `a.attgenerated = ''`
	join := ``
	if version >= 150000 {
		published += ` AND (pr.prattrs IS NULL OR a.attnum = ANY(pr.prattrs::int2[]))`
		join = `LEFT JOIN pg_publication p ON p.pubname = $2
		        LEFT JOIN pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid`
	}
	if version >= 180000 {
		published = `CASE WHEN pr.prattrs IS NOT NULL THEN a.attnum = ANY(pr.prattrs::int2[]) AND a.attgenerated <> 'v'
		                  WHEN a.attgenerated = 's' THEN coalesce(p.pubgencols = 's', false)
		                  ELSE a.attgenerated = '' END`
	}
	return `
		SELECT c.oid, n.nspname, c.relname, c.relreplident::text, c.relnatts,
		       (SELECT array_agg(k.number ORDER BY k.place)
		          FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) WHERE k.place <= i.indnkeyatts),
		       a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
		       CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END,
		       (` + published + `), a.attgenerated <> ''
		  FROM pg_class c
		  JOIN pg_namespace n ON n.oid = c.relnamespace
		  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		  LEFT JOIN LATERAL (
		       SELECT indkey, indnkeyatts FROM pg_index
		        WHERE indrelid = c.oid AND (indisprimary OR indisreplident)
		        ORDER BY indisprimary DESC LIMIT 1) i ON true
		  ` + join + `
		 WHERE c.oid = ANY($1::oid[]) AND $2::text IS NOT NULL
		 ORDER BY c.oid, a.attnum`
}

// indexesOf is where the key's attribute numbers are among the columns'; nil when one is not there.
func indexesOf(key []int16, columns []row.Column) []int {
	var indexes []int
	for _, k := range key {
		i := slices.IndexFunc(columns, func(c row.Column) bool { return c.Number == k })
		if i < 0 {
			return nil
		}
		indexes = append(indexes, i)
	}
	return indexes
}

// quotedColumns are the table's columns for a SELECT list.
func quotedColumns(s *row.Schema, columns []int) string {
	var names []string
	for _, i := range columns {
		names = append(names, quoteIdentifier(s.Columns[i].Name))
	}
	return strings.Join(names, ", ")
}
