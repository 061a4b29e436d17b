package cdc

import (
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
)

func TestWhichServersRememberTooLong(t *testing.T) {
	for version, want := range map[int]bool{130020: true, 130021: false, 140017: true, 150012: true, 150013: false, 160002: true, 160009: false, 170004: true, 170005: false, 180000: false} {
		if got := remembersTooLong(version); got != want {
			t.Errorf("%d: %t", version, got)
		}
	}
}

// TestSettlingWaitsAndChangesNothing settles whatever the server's release: what the publication has stays, column lists
// too, and transactions that are open are waited for and named.
func TestSettlingWaitsAndChangesNothing(t *testing.T) {
	db := devstack.Postgres(t)
	ctx := t.Context()
	db.Exec("CREATE TABLE one (id int PRIMARY KEY, a int, \"B\" int)", "CREATE TABLE two (id int PRIMARY KEY)", "CREATE TABLE three (id int PRIMARY KEY)")
	conn, open := db.Conn(ctx), db.Conn(ctx)
	version, err := serverVersion(conn.PgConn())
	if err != nil {
		t.Fatal(err)
	}
	if version < 150000 {
		t.Skip("no column lists")
	}
	db.Exec(`CREATE PUBLICATION lanternist FOR TABLE one (id, "B"), two, three`)
	cfg := DefaultConfig()
	cfg.URL, cfg.Tables, cfg.CreateTimeout = db.URL(), []string{"one", "two"}, 300*time.Millisecond
	names, err := parseTables(cfg.Tables)
	if err != nil {
		t.Fatal(err)
	}
	entries := func() (list string) {
		t.Helper()
		err := conn.QueryRow(ctx, `SELECT string_agg(prrelid::regclass || coalesce(replace(prattrs::text, ' ', '-'), '') || ' ' || xmin, ', ' ORDER BY prrelid) FROM pg_publication_rel`).Scan(&list)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := entries()
	if _, err := open.Exec(ctx, "BEGIN; INSERT INTO three VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	err = settlePublication(ctx, conn, cfg, names)
	if err == nil || !strings.Contains(err.Error(), "waits for open transactions: pid ") {
		t.Errorf("with an open transaction: %v", err)
	}
	if now := entries(); now != before {
		t.Errorf("entries were %s, are %s", before, now)
	}
	if _, err := open.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	cfg.CreateTimeout = time.Minute // other tests have transactions on this server, too
	if err := settlePublication(ctx, conn, cfg, names); err != nil {
		t.Fatal(err)
	}
	was, is := strings.Split(before, ", "), strings.Split(entries(), ", ")
	for i, changed := range []bool{true, true, false} {
		a, b := strings.Fields(was[i]), strings.Fields(is[i])
		if a[0] != b[0] || (a[1] != b[1]) != changed {
			t.Errorf("entry was %s, is %s", was[i], is[i])
		}
	}
}

// TestSettlingByTheOwner is told what has to be run, and takes it as done when it was.
func TestSettlingByTheOwner(t *testing.T) {
	db := devstack.Postgres(t)
	ctx := t.Context()
	db.Exec("CREATE TABLE one (id int PRIMARY KEY)", "CREATE PUBLICATION lanternist", "ALTER PUBLICATION lanternist ADD TABLE one")
	cfg := DefaultConfig()
	cfg.URL, cfg.Tables, cfg.CreatePublication = db.URL(), []string{"one"}, false
	names, err := parseTables(cfg.Tables)
	if err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(ctx)
	err = settlePublication(ctx, conn, cfg, names)
	if err == nil || !strings.Contains(err.Error(), "let its owner run: ") {
		t.Fatalf("got %v", err)
	}
	_, sql, _ := strings.Cut(err.Error(), "let its owner run: ")
	for statement := range strings.SplitSeq(strings.TrimSuffix(sql, ";"), "; ") {
		db.Exec(statement)
	}
	if err := settlePublication(ctx, conn, cfg, names); err != nil {
		t.Errorf("after the owner has run it: %v", err)
	}
}
