package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ForeignKey says that Columns of Table point at ReferencedColumns of References, in this order.
type ForeignKey struct {
	Name              string
	Table             string // "public.order_items"
	Columns           []string
	References        string // "public.orders"
	ReferencedColumns []string
	Unique            bool // at most one row of Table points at a row of References
}

// ForeignKeys reads the foreign keys of the given tables, named as in Config.Tables, ordered by table and name.
// The tables that they point at need not be among them.
func ForeignKeys(ctx context.Context, conn *pgx.Conn, tables []string) ([]ForeignKey, error) {
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
	rows, err := conn.Query(ctx, `
		SELECT k.conname, n.nspname || '.' || c.relname, rn.nspname || '.' || rc.relname,
		       (SELECT array_agg(a.attname::text ORDER BY x.place) FROM unnest(k.conkey) WITH ORDINALITY AS x(number, place)
		          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.number),
		       (SELECT array_agg(a.attname::text ORDER BY x.place) FROM unnest(k.confkey) WITH ORDINALITY AS x(number, place)
		          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.number),
		       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisunique AND i.indpred IS NULL
		          AND (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ k.conkey)
		  FROM pg_constraint k
		  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		  JOIN pg_class rc ON rc.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = rc.relnamespace
		 WHERE k.contype = 'f' AND k.conrelid = ANY($1::oid[]) AND NOT rc.relispartition
		 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", k.conname COLLATE "C"`, oidsOf(found))
	if err != nil {
		return nil, fmt.Errorf("read foreign keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (k ForeignKey, err error) {
		err = r.Scan(&k.Name, &k.Table, &k.References, &k.Columns, &k.ReferencedColumns, &k.Unique)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("read foreign keys: %w", err)
	}
	return keys, nil
}
