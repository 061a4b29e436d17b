package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

const (
	// sinkLoad ties the line of the load to its limit. It is no service.
	sinkLoad = "load"
	// loadTable is a table of its own: nothing else changes it.
	loadTable = "public.bench_load"
)

// prepareLoad fills the table that is loaded, once for all workloads. It has no part in the backlog.
func prepareLoad(ctx context.Context, r *round) error {
	if r.loadTable {
		return nil
	}
	r.loadTable = true
	return execAll(ctx, r.database.url,
		"CREATE TABLE bench_load (LIKE bench_items INCLUDING ALL)",
		fmt.Sprintf(`INSERT INTO bench_load SELECT n, n %% 5000 + 1, bench_status(n), n %% 100000 / 100.0, bench_note(n),
			timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second' FROM generate_series(1, %d::bigint) AS n`, r.options.loadRows),
		"ALTER PUBLICATION "+publication+" ADD TABLE bench_load",
		"VACUUM (FREEZE, ANALYZE) bench_load")
}

// measureLoad measures COPY of the table to nothing, and then its first load into the mirror.
func measureLoad(ctx context.Context, r *round) ([]sample, error) {
	t := task{Source: r.database.url, Slot: r.slot("load"), Dir: filepath.Join(r.dir, "load"), Table: loadTable, Operations: r.options.loadRows}
	if err := os.Mkdir(t.Dir, 0o700); err != nil {
		return nil, err
	}
	raw, err := r.worker(ctx, "copy", t)
	if err != nil {
		return nil, err
	}
	loaded, err := r.worker(ctx, "load", t)
	if err != nil {
		return nil, err
	}
	limit := raw.Phases[0].rawSample(sinkLoad, "COPY", 1)
	limit.Name, limit.About, limit.Documents = "raw COPY TO STDOUT", "rows, to nothing; 1 connection", 0
	out := loaded.Phases[0].sample("load", "rows, into the mirror; the stream running, no sink")
	out.Sink, out.Load = sinkLoad, true
	return []sample{limit, out}, loaded.Phases[0].bounded()
}

// copyToNothing reads the table and throws it away.
func copyToNothing(ctx context.Context, t task) (r report, err error) {
	conn, err := pgx.Connect(ctx, t.Source)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	watch, err := startWatch()
	if err != nil {
		return r, err
	}
	tag, err := conn.PgConn().CopyTo(ctx, io.Discard, "COPY "+t.Table+" TO STDOUT")
	if err != nil {
		return r, fmt.Errorf("copy: %w", err)
	}
	if n := tag.RowsAffected(); n != int64(t.Operations) {
		return r, fmt.Errorf("copied %d rows, the table has %d", n, t.Operations)
	}
	p, err := watch.stop("", t.Operations)
	r.Phases = []phase{p}
	return r, err
}

// load loads the table into an empty mirror. Its time begins when slot and folders are there, takes in the snapshot and
// the division into ranges, and ends when the stream has reached the snapshot and the table is complete.
func load(ctx context.Context, t task) (r report, err error) {
	p, err := openPath(ctx, t)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	watch, err := startWatch()
	if err != nil {
		return r, err
	}
	if err := p.during(ctx, func(ctx context.Context) error { return p.loader.Load(ctx, p.tables...) }); err != nil {
		return r, err
	}
	measured, err := watch.stop("", t.Operations)
	if err != nil {
		return r, err
	}
	if rows := p.loader.Progress().Rows; rows != int64(t.Operations) {
		return r, fmt.Errorf("loaded %d rows, the table has %d", rows, t.Operations)
	}
	r.Phases = []phase{measured}
	return r, nil
}
