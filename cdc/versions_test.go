package cdc_test

import (
	"os"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
)

// The catalogs and the protocol differ between versions of Postgres. Other versions than this machine's have to
// be fetched, so they are asked for by name: LANTERNIST_POSTGRES_VERSIONS=14,18.
func TestEveryVersionOfPostgres(t *testing.T) {
	versions := os.Getenv("LANTERNIST_POSTGRES_VERSIONS")
	if versions == "" {
		t.Skip("LANTERNIST_POSTGRES_VERSIONS names no versions")
	}
	for version := range strings.SplitSeq(versions, ",") {
		t.Run(version, func(t *testing.T) {
			s := newSource(t, devstack.Postgres(t, devstack.Version(version)), everyType, plainTable,
				`CREATE TABLE generated (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)`)
			expectProblems(t, preflight(t, s.cfg))
			created := s.setup()
			inserted := "[I generated {4}]"
			if created.ServerVersion >= 180000 {
				s.Exec(`ALTER PUBLICATION lanternist SET (publish_generated_columns = stored)`)
				inserted = "[I generated {4,8}]"
			}
			st := s.follow(cdc.Start{})
			s.Exec(`INSERT INTO t VALUES (1, 'a')`, `UPDATE t SET id = 2`, `TRUNCATE t`, `SELECT pg_logical_emit_message(false, 'p', 'c')`,
				`INSERT INTO generated VALUES (4)`, `INSERT INTO every (id) VALUES (1)`)
			all := st.transactions(6)
			expect(t, all[:5], "[I t {1,a}]", "[U t {1,NULL}-> {2,a}]", "[T t]", "[M p:c]", inserted)
			catalog, err := cdc.LoadPublished(t.Context(), s.conn, s.cfg.Publication, s.cfg.Tables)
			if err != nil {
				t.Fatal(err)
			}
			for _, given := range st.schemas.given {
				for _, c := range catalog {
					if c.OID == given.OID && describeSchema(c) != describeSchema(given) {
						t.Errorf("the stream says\n%s\nthe catalog\n%s", describeSchema(given), describeSchema(c))
					}
				}
			}
			st.caughtUp(s.flushLSN())
			for _, c := range catalog {
				copyAll(t, s.session(), c, []cdc.Range{{}})
			}
		})
	}
}
