package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
)

// found is one problem that check prints.
type found struct {
	Where, What, Fix string
	Warning          bool
}

// check runs the command and returns what it found.
func (in *installation) check() (code int, problems []found) {
	in.t.Helper()
	code, stdout, stderr := in.run("check", "--json")
	var answer struct{ Problems []found }
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		in.t.Fatalf("check: exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	return code, answer.Problems
}

// expected is a problem that must be found: texts that it must hold, in what is wrong or in its fix.
type expected struct {
	where string
	texts []string
}

// expect sees to it that every problem is named, each with its fix where the service has one.
func expect(t *testing.T, problems []found, want []expected) {
	t.Helper()
	for _, w := range want {
		named := false
		for _, p := range problems {
			matches := p.Where == w.where && !p.Warning
			for _, text := range w.texts {
				matches = matches && strings.Contains(p.What+"\n"+p.Fix, text)
			}
			named = named || matches
		}
		if !named {
			t.Errorf("no problem of %s says %q", w.where, w.texts)
		}
	}
	if t.Failed() {
		for _, p := range problems {
			t.Logf("%s: %s\n  fix: %s", p.Where, p.What, p.Fix)
		}
	}
}

const shopLikeSchema = `
CREATE TABLE customers (id int PRIMARY KEY, name text, country text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, total numeric, code text);
CREATE TABLE keyless (name text)`

// TestCheckNamesEverythingAtOnce has one configuration with everything wrong that can be.
func TestCheckNamesEverythingAtOnce(t *testing.T) {
	t.Parallel()
	database := devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{"wal_level": "replica"}}).Database()
	database.Exec(shopLikeSchema)
	in := install(t, options{
		database: database,
		tables:   []string{"public.customers", "public.orders", "public.keyless", "public.shipmnts"},
		search:   "http://" + freeAddress(t), cache: wrongPassword(t),
		views: map[string][]byte{
			"unknown_column": []byte("view: unknown_column\nfrom: public.orders\nfields: {id: , totl: }\nsearch:\n"),
			"wrong_join":     []byte("view: wrong_join\nfrom: public.orders\nfields:\n  id:\n  customer: {one: public.customers, on: {id: code}, fields: {name: }}\nsearch:\n"),
			"once":           []byte("view: twice\nfrom: public.orders\nfields: {id: }\ncache:\n"),
			"again":          []byte("view: twice\nfrom: public.customers\nfields: {id: }\ncache:\n"),
			"no_table":       []byte("view: no_table\nfrom: public.invoices\nfields: {id: }\ncache:\n"),
		},
	})
	code, problems := in.check()
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	expect(t, problems, []expected{
		{"views", []string{"unknown_column.yaml:3", `"totl"`, `"total"`}},
		{"views", []string{"wrong_join.yaml:5", "code", "id"}},
		{"views", []string{`"twice"`, "again.yaml", "once.yaml"}},
		{"views", []string{"no_table.yaml:2", "public.invoices"}},
		{"source", []string{"public.shipmnts"}},
		{"source", []string{"wal_level is replica", "ALTER SYSTEM SET wal_level = 'logical'"}},
		{"source", []string{"public.keyless", "PRIMARY KEY"}},
		{"elasticsearch", []string{in.search}},
		{"redis", []string{"WRONGPASS", "redis.url"}},
	})
	for _, p := range problems {
		if p.Where != "views" && p.Fix == "" {
			t.Errorf("%s: %s: has no fix", p.Where, p.What)
		}
		if strings.Contains(p.What+p.Fix, "not-the-secret") {
			t.Errorf("%s: a password is printed: %s %s", p.Where, p.What, p.Fix)
		}
	}

	// The daemon does not start with it, and says why.
	d := in.start()
	if code := d.exit(readyWithin); code != 2 {
		t.Errorf("run exits with %d, want 2", code)
	}
}

func TestCheckNamesAWrongPassword(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	database := devstack.Postgres(t)
	database.Exec(shopLikeSchema)
	in := install(t, options{
		database: database, source: roleWithWrongPassword(t, database), tables: []string{"public.orders"},
		views: map[string][]byte{"orders": []byte("view: orders\nfrom: public.orders\nfields: {id: }\ncache:\n")},
	})
	code, problems := in.check()
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	expect(t, problems, []expected{{"source", []string{"password", database.Name(), "source.url"}}})
	d := in.start()
	if code := d.exit(readyWithin); code != 2 || !strings.Contains(d.log.text(), "password") {
		t.Errorf("run exits with %d, want 2:\n%s", code, d.log.text())
	}
}

func TestCheckOfARightConfiguration(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{}, small)
	if code, problems := in.check(); code != 0 || len(problems) != 0 {
		t.Errorf("exit code %d, %+v", code, problems)
	}
}

// wrongPassword is the URL of the shared Redis as a user of the test's own, with a password that is not the user's.
func wrongPassword(t *testing.T) string {
	t.Helper()
	space := devstack.Redis(t)
	opts, err := redis.ParseURL(space.URL())
	if err != nil {
		t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	user := strings.TrimSuffix(space.Prefix(), ":")
	if err := db.Do(t.Context(), "ACL", "SETUSER", user, "on", ">the-secret", "~*", "+@all").Err(); err != nil {
		db.Close()
		t.Skipf("this Redis has no users: %v", err)
	}
	t.Cleanup(func() {
		defer db.Close()
		if err := db.Do(context.Background(), "ACL", "DELUSER", user).Err(); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(space.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "not-the-secret")
	return u.String()
}

// roleWithWrongPassword is the database's URL as a role that exists, with a password that is not the role's.
func roleWithWrongPassword(t *testing.T, database *devstack.Database) string {
	t.Helper()
	role := database.Name() + "_role"
	database.Exec(fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD 'the-secret'", role))
	t.Cleanup(func() { database.Exec("DROP ROLE " + role) })
	u, err := url.Parse(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "not-the-secret")
	return u.String()
}
