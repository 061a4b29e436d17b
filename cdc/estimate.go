package cdc

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/row"
)

// EstimateRows is the planner's estimate of how many rows each of the tables has; -1 of one that may not be read.
func EstimateRows(ctx context.Context, cfg Config, tables []*row.Schema) ([]int64, error) {
	conn, err := Connect(ctx, cfg.withDefaults())
	if err != nil {
		return nil, err
	}
	defer closeConn(conn.PgConn())
	estimates := make([]int64, len(tables))
	for i, s := range tables {
		estimates[i] = -1
		name := tableName{Namespace: s.Namespace, Name: s.Name}
		rows, err := estimateRows(ctx, conn, name.sql())
		if ctx.Err() != nil || conn.IsClosed() {
			return nil, fmt.Errorf("estimate rows: %w", err)
		}
		if err == nil {
			estimates[i] = rows
		}
	}
	return estimates, nil
}
