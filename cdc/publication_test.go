package cdc_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
)

// tablesOf are the tables that a publication has, by name.
func (s *source) tablesOf(publication string) (names []string) {
	s.t.Helper()
	var list []string
	err := s.conn.QueryRow(s.t.Context(), `SELECT coalesce(array_agg(tablename::text ORDER BY tablename), '{}') FROM pg_publication_tables WHERE pubname = $1`, publication).Scan(&list)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *source) plan(add, remove []string) *cdc.PublicationPlan {
	s.t.Helper()
	plan, err := cdc.PlanPublication(s.t.Context(), s.cfg, add, remove)
	if err != nil {
		s.t.Fatalf("PlanPublication: %v", err)
	}
	return plan
}

func TestPublicationIsPlannedAndChanged(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable, `CREATE TABLE "Odd ""one" (id int PRIMARY KEY)`, `CREATE TABLE theirs (id int PRIMARY KEY)`,
		`CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)`, `CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10)`)
	s.cfg.Tables = []string{"public.t"}
	s.setup()
	s.Exec(`ALTER PUBLICATION lanternist ADD TABLE theirs`)
	odd := `public."Odd ""one"`
	plan := s.plan([]string{odd, "parts", "t"}, []string{"t", "gone.*"})
	if !slices.Equal(plan.Add, []string{`public.Odd "one`, "public.parts"}) || plan.Drop != nil || plan.Refused != "" {
		t.Fatalf("plan %+v", plan)
	}
	if err := cdc.ApplyPublication(t.Context(), s.cfg, plan); err != nil {
		t.Fatal(err)
	}
	if got := s.tablesOf("lanternist"); !slices.Equal(got, []string{`Odd "one`, "parts", "t", "theirs"}) {
		t.Errorf("tables %v", got)
	}
	if plan := s.plan([]string{odd, "parts", "t"}, nil); len(plan.SQL) != 0 {
		t.Errorf("a second plan is %+v", plan)
	}
	// What is captured stays, and what no one names, too.
	s.cfg.Tables = []string{"public.t"}
	plan = s.plan(nil, []string{odd, "parts", "t", "nobody"})
	if !slices.Equal(plan.Drop, []string{`public.Odd "one`, "public.parts"}) {
		t.Fatalf("plan %+v", plan)
	}
	if err := cdc.ApplyPublication(t.Context(), s.cfg, plan); err != nil {
		t.Fatal(err)
	}
	if got := s.tablesOf("lanternist"); !slices.Equal(got, []string{"t", "theirs"}) {
		t.Errorf("tables %v", got)
	}
	if _, err := cdc.PlanPublication(t.Context(), s.cfg, []string{"public.tt"}, nil); err == nil || !strings.Contains(err.Error(), "did you mean") {
		t.Errorf("a table that is not there: %v", err)
	}
	// All or nothing.
	s.Exec(`ALTER PUBLICATION lanternist ADD TABLE ` + odd)
	plan = s.plan([]string{"parts"}, []string{odd})
	s.Exec(`ALTER PUBLICATION lanternist DROP TABLE ` + odd)
	if err := cdc.ApplyPublication(t.Context(), s.cfg, plan); err == nil {
		t.Fatal("a plan that is out of date was carried out")
	}
	if got := s.tablesOf("lanternist"); !slices.Equal(got, []string{"t", "theirs"}) {
		t.Errorf("tables %v after a plan that was not carried out", got)
	}
}

func TestPublicationOfAllTablesIsLeftAlone(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable, `CREATE TABLE other (id int PRIMARY KEY)`, `CREATE PUBLICATION lanternist FOR ALL TABLES`)
	s.cfg.Tables = []string{"t"}
	if plan := s.plan([]string{"other"}, []string{"other"}); len(plan.SQL) != 0 {
		t.Errorf("plan %+v", plan)
	}
	if err := cdc.SettlePublication(t.Context(), s.cfg, []string{"other"}); err != nil {
		t.Error(err)
	}
}

func TestPublicationThatIsNotOurs(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable, `CREATE TABLE other (id int PRIMARY KEY)`, `CREATE PUBLICATION lanternist FOR TABLE t`)
	const want = `ALTER PUBLICATION "lanternist" ADD TABLE ONLY "public"."other";`
	refused := func(cfg cdc.Config, why string) {
		t.Helper()
		plan, err := cdc.PlanPublication(t.Context(), cfg, []string{"other"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = cdc.ApplyPublication(t.Context(), cfg, plan)
		var refused *cdc.PublicationError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q and %q", err, why, want)
		}
	}
	cfg := s.cfg
	cfg.CreatePublication = false
	refused(cfg, "source.create is false")
	role := s.Name() + "_r"
	s.Exec(`CREATE ROLE `+role+` LOGIN REPLICATION PASSWORD 'p'`, `GRANT SELECT ON t, other TO `+role)
	t.Cleanup(func() { s.Exec(`DROP OWNED BY `+role+` CASCADE`, `DROP ROLE `+role) })
	u, err := url.Parse(s.cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "p")
	cfg = s.cfg
	cfg.URL = u.String()
	refused(cfg, "it belongs to role")
	s.Exec(`GRANT CREATE ON DATABASE `+s.Name()+` TO `+role, `ALTER PUBLICATION lanternist OWNER TO `+role)
	refused(cfg, `other belongs to role`)
	if got := s.tablesOf("lanternist"); !slices.Equal(got, []string{"t"}) {
		t.Errorf("tables %v", got)
	}
}

func TestPreflightOfTablesToBeAdded(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable, `CREATE TABLE good (id int PRIMARY KEY)`, `CREATE TABLE keyless (id int)`,
		`CREATE TABLE nothing (id int PRIMARY KEY)`, `ALTER TABLE nothing REPLICA IDENTITY NOTHING`, `CREATE VIEW v AS SELECT 1 AS one`)
	s.cfg.Tables = []string{"t"}
	s.setup()
	report, err := cdc.PreflightTables(t.Context(), s.cfg, []string{"good"})
	if err != nil || report.Err() != nil || len(report.Tables) != 1 {
		t.Errorf("of a good table: %v, %v, %v", err, report.Problems, report.Tables)
	}
	report, err = cdc.PreflightTables(t.Context(), s.cfg, []string{"good", "keyless", "nothing", "v", "gone"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"keyless has no primary key", "nothing has replica identity nothing", "v is a view", "gone does not exist", "fix: ALTER TABLE"} {
		if !strings.Contains(report.Err().Error(), want) {
			t.Errorf("%v: want %q in it", report.Err(), want)
		}
	}
}
