package cdc_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
)

func preflight(t *testing.T, cfg cdc.Config) *cdc.Report {
	t.Helper()
	report, err := cdc.Preflight(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Preflight: %v", err)
	}
	for _, p := range report.Problems {
		if p.Code == "" || p.What == "" || p.Fix == "" || p.Severity == "" {
			t.Errorf("incomplete problem %+v", p)
		}
	}
	return report
}

// expectProblems compares codes, and that What or Fix of each contains what is wanted after the code.
func expectProblems(t *testing.T, report *cdc.Report, want ...string) {
	t.Helper()
	var codes, wanted []string
	for _, p := range report.Problems {
		codes = append(codes, p.Code)
	}
	for _, w := range want {
		code, part, _ := strings.Cut(w, " ")
		wanted = append(wanted, code)
		found := false
		for _, p := range report.Problems {
			found = found || p.Code == code && strings.Contains(p.What+"\n"+p.Fix, part)
		}
		if !found {
			t.Errorf("no problem %s with %q", code, part)
		}
	}
	if strings.Join(codes, " ") != strings.Join(wanted, " ") {
		t.Errorf("problems %v, want %v", codes, wanted)
	}
	if t.Failed() {
		for _, p := range report.Problems {
			t.Logf("%s (%s): %s\n\t%s", p.Code, p.Severity, p.What, p.Fix)
		}
	}
}

func TestPreflightOfASourceInOrder(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	report := preflight(t, s.cfg)
	expectProblems(t, report)
	if !report.OK() || len(report.Tables) != 1 || report.Source.SystemID == "" {
		t.Errorf("report %+v", report)
	}
	s.setup()
	expectProblems(t, preflight(t, s.cfg))
	st := s.follow(cdc.Start{})
	st.caughtUp(s.flushLSN())
	report = preflight(t, s.cfg)
	expectProblems(t, report, fmt.Sprintf("slot-active process %d", s.slot().ActivePID))
	if !report.OK() {
		t.Error("a slot in use is not blocking: it may be ours")
	}
}

func TestPreflightNamesEveryProblemAtOnce(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `
		CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE nokey (a int); CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
		CREATE VIEW shown AS SELECT 1 AS id; CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE other_key (id int PRIMARY KEY, u text NOT NULL UNIQUE); ALTER TABLE other_key REPLICA IDENTITY USING INDEX other_key_u_key;
		CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
		CREATE TABLE extra (id int PRIMARY KEY);
		CREATE PUBLICATION lanternist FOR TABLE orders, extra WITH (publish = 'insert');`)
	s.Exec(`SELECT pg_create_physical_replication_slot('` + s.cfg.Slot + `')`)
	t.Cleanup(func() { s.Exec(`SELECT pg_drop_replication_slot('` + s.cfg.Slot + `')`) })
	s.cfg.CreatePublication = false
	s.cfg.Tables = []string{"ordrs", "nokey", "fleeting", "shown", "nothing", "other_key", "parts", "parts1", "orders"}
	report := preflight(t, s.cfg)
	expectProblems(t, report,
		`table-missing did you mean "public.orders"?`,
		`table-unlogged ALTER TABLE "public"."fleeting" SET LOGGED;`,
		`table-kind public.shown is a view`,
		`table-partition public.parts1 is a partition`,
		`table-key ALTER TABLE "public"."nokey" ADD PRIMARY KEY`,
		`replica-identity ALTER TABLE "public"."nothing" REPLICA IDENTITY DEFAULT;`,
		`replica-identity ALTER TABLE "public"."other_key" REPLICA IDENTITY DEFAULT;`,
		`publication-tables ALTER PUBLICATION "lanternist" ADD TABLE ONLY "public"."nokey"`,
		`publication-operations does not publish updates, deletes, truncates`,
		`publication-partitions publish_via_partition_root = true`,
		`publication-extra public.extra`,
		`slot-unusable physical`,
	)
	if report.OK() {
		t.Error("the report is OK")
	}
	// What the fixes say is valid, and solves it.
	s.cfg.CreatePublication = true
	s.cfg.Tables = []string{"nothing", "other_key", "parts", "orders"}
	s.Exec(`SELECT pg_drop_replication_slot('`+s.cfg.Slot+`')`, `DROP TABLE extra`)
	for _, p := range report.Problems {
		switch p.Code {
		case "table-unlogged", "replica-identity", "publication-operations", "publication-partitions":
			s.Exec(p.Fix)
		}
	}
	expectProblems(t, preflight(t, s.cfg))
	s.Exec(`SELECT pg_create_physical_replication_slot('` + s.cfg.Slot + `')`)
}

func TestPreflightOfAConnection(t *testing.T) {
	db := devstack.Postgres(t)
	s := newSource(t, db, plainTable)
	with := func(change func(*url.URL)) cdc.Config {
		u, err := url.Parse(db.URL())
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		cfg := s.cfg
		cfg.URL = u.String()
		return cfg
	}
	typo := db.Name()[:len(db.Name())-1]
	expectProblems(t, preflight(t, with(func(u *url.URL) { u.Path = "/" + typo })), `database-missing did you mean "`+db.Name()+`"?`)
	expectProblems(t, preflight(t, with(func(u *url.URL) { u.Host = "127.0.0.1:1" })), `unreachable 127.0.0.1:1`)
	expectProblems(t, preflight(t, with(func(u *url.URL) { u.Host = "no-such-host.invalid" })), `unreachable no-such-host.invalid`)
	expectProblems(t, preflight(t, with(func(u *url.URL) { u.RawQuery = "sslmode=require" })), `unreachable `)
	expectProblems(t, preflight(t, with(func(u *url.URL) { u.User = url.User(db.Name() + "_nobody") })), `authentication nobody`)
	cfg := with(func(u *url.URL) { u.RawQuery = "sslmode=odd" })
	cfg.Tables = nil
	expectProblems(t, preflight(t, cfg), `configuration url`, `configuration tables: none named`)
}

func TestPreflightOfAServersSettings(t *testing.T) {
	server := devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{
		"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1",
	}})
	db := server.Database()
	s := newSource(t, db, plainTable)
	s.Exec(`SELECT pg_create_physical_replication_slot('occupied')`)
	expectProblems(t, preflight(t, s.cfg),
		`wal-level ALTER SYSTEM SET wal_level = 'logical';`, `slots 0 replication slots are free, 2 are needed`, `wal-senders 1 WAL senders are free, 2 are needed`)
}

// A role with nothing but what LeastPrivilegeSQL grants can do everything; without, every missing right is named.
func TestPreflightOfAnOrdinaryRole(t *testing.T) {
	db := devstack.Postgres(t)
	s := newSource(t, db, `CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, v text); CREATE TABLE t (id int PRIMARY KEY);
		INSERT INTO t VALUES (1); ALTER TABLE t ENABLE ROW LEVEL SECURITY`)
	role := db.Name() + "_reader"
	s.cfg.Tables = []string{"sales.orders", "t"}
	catalog := s.catalog(s.cfg.Tables...)
	s.Exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'p'`)
	t.Cleanup(func() { s.Exec(`DROP OWNED BY `+role, `DROP ROLE `+role) })
	u, err := url.Parse(db.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "wrong")
	s.cfg.URL = u.String()
	report := preflight(t, s.cfg)
	expectProblems(t, report, `authentication refuses the password of user "`+role+`"`)
	if strings.Contains(fmt.Sprint(report.Problems), "wrong") {
		t.Error("a problem shows the password")
	}
	u.User = url.UserPassword(role, "p")
	s.cfg.URL = u.String()
	report = preflight(t, s.cfg)
	expectProblems(t, report,
		`role-replication ALTER ROLE "`+role+`" REPLICATION;`,
		`schema-usage GRANT USAGE ON SCHEMA "sales" TO "`+role+`";`,
		`table-select GRANT SELECT ON TABLE "sales"."orders", "public"."t" TO "`+role+`";`,
		`row-security BYPASSRLS`,
		`publication-missing CREATE PUBLICATION "lanternist" FOR TABLE ONLY "sales"."orders", ONLY "public"."t"`,
	)
	script := cdc.LeastPrivilegeSQL(s.cfg, catalog)
	for _, line := range strings.Split(script, ";\n") {
		if !strings.Contains(line, "CREATE ROLE") && strings.TrimSpace(line) != "" {
			s.Exec(line)
		}
	}
	s.Exec(`ALTER ROLE ` + role + ` REPLICATION BYPASSRLS`)
	if !strings.Contains(script, `CREATE ROLE "`+role+`" LOGIN REPLICATION`) {
		t.Errorf("script:\n%s", script)
	}
	expectProblems(t, preflight(t, s.cfg))
	if got := s.setup(); !got.Created {
		t.Errorf("Setup = %+v", got)
	}
	if got := copyAll(t, s.session(), catalog[1], []cdc.Range{{}}); len(got) != 1 {
		t.Errorf("copied %d rows", len(got))
	}
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO sales.orders VALUES (1, 'a')`)
	expect(t, st.transactions(1), "[I orders {1,a}]")
	if err := st.stop(); err == nil {
		t.Error("Run ended without a cause")
	}
}
