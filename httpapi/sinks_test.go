package httpapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/views"
)

// TestRealCache reads documents that were written to a real Redis.
func TestRealCache(t *testing.T) {
	space := devstack.Redis(t)
	client, err := cache.NewClient(cache.Config{URL: space.URL(), Prefix: space.Prefix()}, quiet)
	must(t, err)
	t.Cleanup(func() { must(t, client.Close()) })
	store := client.Store(compile(t, ordersYAML))
	composed := views.Document{ID: "3", Body: []byte(`{"id":"3"}`), Lookups: []string{"7", ""}}
	reader := cache.NewReader(store, func(_ context.Context, ids []string) ([]views.Document, event.Offset, error) {
		docs := make([]views.Document, len(ids))
		for i, id := range ids {
			if id == composed.ID {
				docs[i] = composed
			}
		}
		return docs, 20, nil
	})
	w := newWorld(t, func(_ *Config, parts *Parts) { parts.Views[0].Cache.Documents = reader })
	w.get("/v1/views/orders/1").want(t, 503) // nothing is live yet
	if w.cache.rechecks == 0 {
		t.Error("the projector was not told")
	}

	generation, err := store.Create(t.Context(), projectors.Info{Number: 1, Hash: compile(t, ordersYAML).Hash()})
	must(t, err)
	must(t, store.Promote(t.Context(), 1))
	write := func(version event.Offset, docs ...views.Document) {
		t.Helper()
		_, err := generation.Write(t.Context(), version, docs)
		must(t, err)
		w.cache.advance(0x10, version)
	}
	write(10,
		views.Document{ID: "1", Body: []byte(`{"id":"1"}`), Lookups: []string{"7", "open:7"}},
		views.Document{ID: "a/b", Body: []byte(`{"id":"a/b"}`), Lookups: []string{"7", ""}})
	r := w.get("/v1/views/orders/1").want(t, 200).header(t, "Lanternist-Version", "10", "Lanternist-Offset", "10")
	etag := r.Header.Get("ETag")
	w.get("/v1/views/orders/1", "If-None-Match", etag).want(t, 304)
	w.get("/v1/views/orders/a%2Fb").want(t, 200)
	w.get("/v1/views/orders/2").want(t, 404)
	w.get("/v1/views/orders/3").want(t, 200).header(t, "Lanternist-Version", "20") // had expired

	body := into[lookupBody](t, w.get("/v1/views/orders?customer_id=7&limit=2").want(t, 200))
	rest := into[lookupBody](t, w.get("/v1/views/orders?customer_id=7&limit=2&cursor="+body.Cursor).want(t, 200))
	ids := ""
	for _, d := range append(body.Documents, rest.Documents...) {
		ids += d.ID + " "
	}
	if ids != "1 3 a/b " || rest.Cursor != "" {
		t.Errorf("documents of customer 7: %s", ids)
	}
	if got := into[lookupBody](t, w.get("/v1/views/orders?customer_id=7&status=open").want(t, 200)); len(got.Documents) != 1 {
		t.Errorf("open documents of customer 7: %+v", got)
	}

	write(11, views.Document{ID: "1"})
	w.get("/v1/views/orders/1", "If-None-Match", etag).want(t, 404)
}

// TestTransactionsOfRealSource asks a real Postgres what became of transactions.
func TestTransactionsOfRealSource(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec(`CREATE TABLE t (id int)`)
	w := newWorld(t, func(cfg *Config, _ *Parts) { cfg.SourceURL = db.URL() })
	transactions := w.server.follower
	t.Cleanup(transactions.disconnect)
	w.docs.get = anything
	ctx := t.Context()

	begin := func() (pgx.Tx, uint64) {
		t.Helper()
		conn := db.Conn(ctx)
		tx, err := conn.Begin(ctx)
		must(t, err)
		var xid uint64
		must(t, tx.QueryRow(ctx, `INSERT INTO t VALUES (1) RETURNING pg_current_xact_id()::text::bigint`).Scan(&xid))
		return tx, xid
	}
	want := func(xid uint64, want Outcome) {
		t.Helper()
		outcome, lsn, err := transactions.resolve(ctx, xid)
		if err != nil || outcome != want {
			t.Fatalf("transaction %d: %v, %v; want %v", xid, outcome, err, want)
		}
		if want == Committed {
			// Asked again it may become a later position: other tests write to the same server.
			w.cache.advance(lsn+1<<40, 9)
			w.get(fmt.Sprintf("/v1/views/orders/1?after=xid:%d", xid)).want(t, 200)
		}
	}
	tx, xid := begin()
	want(xid, InProgress)
	p := w.get(fmt.Sprintf("/v1/views/orders/1?after=xid:%d&wait=20ms", xid)).want(t, 504).problem(t)
	if !strings.Contains(p.Detail, "has not ended") {
		t.Errorf("got %+v", p)
	}
	must(t, tx.Commit(ctx))
	want(xid, Committed)
	rolled, xid := begin()
	must(t, rolled.Rollback(ctx))
	want(xid, Aborted)
	w.get(fmt.Sprintf("/v1/views/orders/1?after=xid:%d", xid)).want(t, 409)
	want(xid+1_000_000, Unborn)
	w.get(fmt.Sprintf("/v1/views/orders/1?after=xid:%d", xid+1_000_000)).want(t, 422)
	want(3, Committed) // so old that its state is not kept, or the bootstrap's

	// The commit of a transaction is before the position that its token becomes.
	tx, xid = begin()
	must(t, tx.Commit(ctx))
	_, lsn, err := transactions.resolve(ctx, xid)
	must(t, err)
	var commitIsBefore bool
	must(t, db.Conn(ctx).QueryRow(ctx, `SELECT $1::pg_lsn <= pg_current_wal_flush_lsn()`, lsn.String()).Scan(&commitIsBefore))
	if !commitIsBefore {
		t.Errorf("%s is beyond the end of the log", lsn)
	}

	// A connection that the source has closed is replaced.
	pid := transactions.conn.PgConn().PID()
	db.Exec(fmt.Sprintf(`SELECT pg_terminate_backend(%d)`, pid))
	devstack.Eventually(t, time.Minute, func() error {
		var n int
		if err := db.Conn(ctx).QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("backend %d is still there", pid)
		}
		return nil
	})
	want(xid, Committed)
}
