package cdc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

// Shape is what the catalog says of a captured table: its definition, and what tells whether rows of it may have become other
// ones without a change that the stream brings. It is compared with one of an earlier time.
type Shape struct {
	Definition *row.Schema `json:"definition"`
	Kind       string      `json:"kind"` // pg_class.relkind
	// File changes when the table is rewritten, Attributes when a column's definition is written.
	File       uint32 `json:"file"`
	Attributes string `json:"attributes"`
	// Published identifies the table's being in the publication; 0 when it is not. One that has left it and come back has
	// another. Options are what the publication sends.
	Published uint32 `json:"published"`
	Options   string `json:"options"`
	// Partitions are those that hold rows, with the file of each.
	Partitions map[uint32]uint32 `json:"partitions,omitempty"`
	// Labels are those of the enums among the columns' types.
	Labels map[uint32]string `json:"labels,omitempty"`
	// Uncovered says that the replica identity is an index without the columns of the primary key: a row that is deleted could
	// not be found by what the stream says of it.
	Uncovered bool `json:"uncovered,omitempty"`
	// Owed says that a new column of a partitioned table has a value in the rows from before.
	Owed []int16 `json:"owed,omitempty"`
}

// LoadShapes reads the shapes of tables, by OID; those that do not exist are left out. Each is as it was at one moment.
func LoadShapes(ctx context.Context, conn *pgx.Conn, publication string, oids []uint32) (shapes map[uint32]*Shape, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(pgx.Tx) (err error) {
		shapes, err = loadShapes(ctx, conn, publication, oids)
		return err
	})
	return shapes, err
}

func loadShapes(ctx context.Context, conn *pgx.Conn, publication string, oids []uint32) (map[uint32]*Shape, error) {
	definitions, err := loadDefinitions(ctx, conn, publication, oids)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, `
		SELECT c.oid, c.relkind::text, c.relfilenode,
		       coalesce((SELECT md5(string_agg(a.attnum || ':' || a.xmin, ',' ORDER BY a.attnum)) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), ''),
		       CASE WHEN EXISTS (SELECT FROM pg_get_publication_tables(p.pubname::text) t WHERE t.relid = c.oid)
		            THEN coalesce((SELECT pr.oid FROM pg_publication_rel pr WHERE pr.prpubid = p.oid AND pr.prrelid = c.oid), p.oid) ELSE 0::oid END,
		       coalesce(concat_ws(' ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
		                 CASE WHEN p.pubtruncate THEN 'truncate' END, CASE WHEN p.pubviaroot THEN 'root' END), ''),
		       c.relreplident = 'i' AND EXISTS (SELECT FROM pg_index pk, pg_index ri WHERE pk.indrelid = c.oid AND pk.indisprimary AND ri.indrelid = c.oid
		                AND ri.indisreplident AND NOT (pk.indkey::int2[])[0:pk.indnkeyatts - 1] <@ ri.indkey::int2[])
		  FROM pg_class c LEFT JOIN pg_publication p ON p.pubname = $2
		 WHERE c.oid = ANY($1::oid[])`, oids, publication)
	if err != nil {
		return nil, fmt.Errorf("read shapes of tables: %w", err)
	}
	shapes := map[uint32]*Shape{}
	var oid uint32
	var s Shape
	_, err = pgx.ForEachRow(rows, []any{&oid, &s.Kind, &s.File, &s.Attributes, &s.Published, &s.Options, &s.Uncovered}, func() error {
		if definitions[oid] != nil {
			shape := s
			shape.Definition = definitions[oid]
			shapes[oid] = &shape
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read shapes of tables: %w", err)
	}
	if err := loadPartitions(ctx, conn, shapes); err != nil {
		return nil, err
	}
	return shapes, loadLabels(ctx, conn, shapes)
}

// loadPartitions reads the partitions of partitioned tables, and which columns have values in rows from before them.
func loadPartitions(ctx context.Context, conn *pgx.Conn, shapes map[uint32]*Shape) error {
	var roots []uint32
	for oid, s := range shapes {
		if s.Kind == "p" {
			roots = append(roots, oid)
			s.Partitions = map[uint32]uint32{}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	rows, err := conn.Query(ctx, `
		SELECT r.root, c.oid, c.relfilenode,
		       coalesce((SELECT array_agg(ra.attnum) FROM pg_attribute a JOIN pg_attribute ra ON ra.attrelid = r.root AND ra.attname = a.attname
		                  WHERE a.attrelid = c.oid AND a.atthasmissing AND NOT ra.attisdropped), '{}')
		  FROM unnest($1::oid[]) AS r(root), pg_partition_tree(r.root::regclass) t JOIN pg_class c ON c.oid = t.relid
		 WHERE t.isleaf AND t.relid <> r.root`, roots)
	if err != nil {
		return fmt.Errorf("read partitions: %w", err)
	}
	var root, leaf, file uint32
	var owed []int16
	_, err = pgx.ForEachRow(rows, []any{&root, &leaf, &file, &owed}, func() error {
		s := shapes[root]
		s.Partitions[leaf] = file
		for _, n := range owed {
			if !slices.Contains(s.Owed, n) {
				s.Owed = append(s.Owed, n)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read partitions: %w", err)
	}
	return nil
}

// loadLabels reads the labels of the enums that columns are of, also as elements of arrays and under domains.
func loadLabels(ctx context.Context, conn *pgx.Conn, shapes map[uint32]*Shape) error {
	rows, err := conn.Query(ctx, `
		SELECT DISTINCT a.attrelid, e.oid, e.enumlabel::text
		  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
		  JOIN pg_enum e ON e.enumtypid IN (t.oid, t.typelem, t.typbasetype, b.typelem)
		 WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped`, slices.Collect(maps.Keys(shapes)))
	if err != nil {
		return fmt.Errorf("read enums: %w", err)
	}
	var oid, label uint32
	var text string
	_, err = pgx.ForEachRow(rows, []any{&oid, &label, &text}, func() error {
		s := shapes[oid]
		if s.Labels == nil {
			s.Labels = map[uint32]string{}
		}
		s.Labels[label] = text
		return nil
	})
	if err != nil {
		return fmt.Errorf("read enums: %w", err)
	}
	return nil
}

// Sends says whether the publication sends all changes of the table.
func (s *Shape) Sends() bool {
	if s.Published == 0 {
		return false
	}
	for _, what := range []string{"insert", "update", "delete", "truncate"} {
		if !strings.Contains(s.Options, what) {
			return false
		}
	}
	return s.Kind != "p" || strings.Contains(s.Options, "root")
}

// Rewritten says why rows may be other ones now than the stream has told, after the table had the shape was; "" when they
// are not. attached says whether a partition that has come brought rows along.
func (s *Shape) Rewritten(was *Shape, attached func(partition uint32) (bool, error)) (string, error) {
	if why := s.rewrittenColumns(was); why != "" {
		return why, nil
	}
	for label, text := range was.Labels {
		if now, ok := s.Labels[label]; ok && now != text {
			return fmt.Sprintf("label %q of an enum is now %q", text, now), nil
		}
	}
	for leaf, file := range was.Partitions {
		switch now, ok := s.Partitions[leaf]; {
		case !ok:
			return "a partition was detached or dropped", nil
		case now != file:
			return "a partition was truncated or rewritten", nil
		}
	}
	for leaf := range s.Partitions {
		if _, ok := was.Partitions[leaf]; ok {
			continue
		}
		brought, err := attached(leaf)
		if err != nil {
			return "", err
		}
		if brought {
			return "a partition with rows was attached", nil
		}
	}
	return "", nil
}

// rewrittenColumns is Rewritten as far as columns and files go. A new column alone is none: older rows have its Missing value.
func (s *Shape) rewrittenColumns(was *Shape) string {
	rewritten := s.File != was.File
	for i := range s.Definition.Columns {
		c := &s.Definition.Columns[i]
		at, presence := was.Definition.Place(c)
		switch {
		case presence == row.NotYet && rewritten:
			return fmt.Sprintf("it was rewritten when column %s came", c.Name)
		case presence == row.NotYet && slices.Contains(s.Owed, c.Number):
			return fmt.Sprintf("column %s came with a default", c.Name)
		case presence == row.NotYet && was.Definition.Column(c.Name) >= 0:
			return fmt.Sprintf("column %s was dropped and added again", c.Name)
		case presence != row.Present:
			continue
		}
		old := &was.Definition.Columns[at]
		if old.Type.OID != c.Type.OID && (rewritten || s.Kind == "p" || old.Type.Class != c.Type.Class) {
			return fmt.Sprintf("column %s was %s and is now %s", c.Name, old.Type.Name, c.Type.Name)
		}
		if old.Name != c.Name && was.Definition.Column(c.Name) >= 0 {
			return fmt.Sprintf("column %s is what %s was", c.Name, old.Name)
		}
	}
	if rewritten && s.Attributes != was.Attributes {
		return "it was rewritten when a column was changed"
	}
	return ""
}

// Attached says whether a partition may have had rows when it was attached: one that was created as a partition has not.
func Attached(ctx context.Context, conn *pgx.Conn, partition uint32) (bool, error) {
	var table string
	err := conn.QueryRow(ctx, `SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = $1 AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')`, partition).Scan(&table)
	if err != nil {
		return true, nil //nolint:nilerr // what cannot be looked at may have brought rows
	}
	var brought bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ONLY `+table+` t, pg_inherits i WHERE i.inhrelid = $1
		AND age(t.xmin) >= age(i.xmin) AND NOT (t.xmin = i.xmin AND t.cmin::text::bigint >= i.cmin::text::bigint))`, partition).Scan(&brought)
	if err != nil {
		return true, nil //nolint:nilerr // the same
	}
	return brought, nil
}
