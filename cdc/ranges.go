package cdc

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

const (
	// rangesMax bounds the ranges of one table.
	rangesMax = 10_000
	// samplesPerRange is about how many rows are looked at for each bound.
	samplesPerRange = 500
	// sparse is how many times more integers than rows there may be between the first and the last key for the
	// rows to be taken as spread evenly.
	sparse = 4
)

// Ranges splits a table into ranges of about target rows each, which together are all of it. A table without a
// key, or with few rows, is one range. The bounds are guesses: a range may have more rows, or none.
func (p *Planner) Ranges(ctx context.Context, schema *row.Schema, target int) (ranges []Range, err error) {
	err = p.in(ctx, func(conn *pgx.Conn) error {
		table, err := findTable(ctx, conn, schema)
		if err != nil {
			return err
		}
		rows, err := estimateRows(ctx, conn, table)
		if err != nil {
			return err
		}
		parts := min(rows/int64(max(1, target))+1, rangesMax)
		if parts == 1 || len(schema.Key) == 0 {
			ranges = []Range{{}}
			return nil
		}
		var bounds [][]string
		if len(schema.Key) == 1 && schema.Columns[schema.Key[0]].Type.Class == row.Int {
			bounds, err = evenBounds(ctx, conn, schema, table, rows, parts)
		}
		if err == nil && bounds == nil {
			bounds, err = sampledBounds(ctx, conn, schema, table, rows, parts)
		}
		if err != nil {
			return fmt.Errorf("split %s: %w", schema.QualifiedName(), err)
		}
		ranges = rangesBetween(bounds)
		return nil
	})
	return ranges, err
}

// rangesBetween makes the ranges that n bounds are between: n+1, the first and the last open.
func rangesBetween(bounds [][]string) []Range {
	ranges := make([]Range, len(bounds)+1)
	for i, bound := range bounds {
		ranges[i].To, ranges[i+1].From = bound, bound
	}
	return ranges
}

// evenBounds splits the distance between the first and the last integer key, or returns nil when the rows are
// too few for their being spread evenly to be likely.
func evenBounds(ctx context.Context, conn *pgx.Conn, schema *row.Schema, table string, rows, parts int64) ([][]string, error) {
	column := quotedColumns(schema, schema.Key)
	var least, most *int64
	err := conn.QueryRow(ctx, fmt.Sprintf("SELECT min(%s)::bigint, max(%s)::bigint FROM %s", column, column, table)).Scan(&least, &most)
	if err != nil {
		return nil, err
	}
	if least == nil {
		return [][]string{}, nil // no rows
	}
	// Unsigned, because the distance between two int8 may not fit one.
	distance := uint64(*most) - uint64(*least)
	if distance/sparse > uint64(rows) {
		return nil, nil
	}
	step := distance/uint64(parts) + 1
	bounds := [][]string{}
	for at := step; at <= distance; at += step {
		bounds = append(bounds, []string{strconv.FormatInt(int64(uint64(*least)+at), 10)})
	}
	return bounds, nil
}

// sampledBounds takes bounds from the keys of randomly chosen pages.
func sampledBounds(ctx context.Context, conn *pgx.Conn, schema *row.Schema, table string, rows, parts int64) ([][]string, error) {
	columns := quotedColumns(schema, schema.Key)
	var texts []string
	for _, i := range schema.Key {
		texts = append(texts, quoteIdentifier(schema.Columns[i].Name)+"::text")
	}
	percent := min(100, 100*float64(parts*samplesPerRange)/float64(rows))
	found, err := conn.Query(ctx, fmt.Sprintf(`
		WITH sample AS (
		     SELECT %[1]s, row_number() OVER (ORDER BY %[1]s) AS "#place", count(*) OVER () AS "#all"
		       FROM %[2]s TABLESAMPLE SYSTEM (%[3]f))
		SELECT ARRAY[%[4]s] FROM sample
		 WHERE "#place" * %[5]d / "#all" <> ("#place" - 1) * %[5]d / "#all" AND "#place" < "#all"
		 ORDER BY "#place"`, columns, table, percent, strings.Join(texts, ", "), parts))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[[]string])
}
