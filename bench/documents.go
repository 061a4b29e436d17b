package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// document is a row as the view makes a document of it.
type document struct {
	id, body string
}

// loadDocuments reads what the view's documents are at the end, as Postgres itself writes them, in order of their ids.
func loadDocuments(ctx context.Context, url string) ([]document, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT id::text, row_to_json(i)::text FROM bench_items i ORDER BY i.id")
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	documents, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d document, err error) {
		return d, row.Scan(&d.id, &d.body)
	})
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	return documents, nil
}

// operations is documents in the order in which the raw workloads write them: by a stride, and again from the first when
// there are more operations than documents.
func operations(documents []document, n int) []document {
	stride := strideFor(len(documents))
	list := make([]document, n)
	for i := range list {
		list[i] = documents[i*stride%len(documents)]
	}
	return list
}

// share is the part of n things that writer w of many has: from and to.
func share(n, w, many int) (from, to int) { return n * w / many, n * (w + 1) / many }
