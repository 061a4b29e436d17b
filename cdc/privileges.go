package cdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// LeastPrivilegeSQL is a script that a superuser runs once so that a role with no other rights can capture the
// tables of the catalog: it makes the role of cfg.URL, grants it what it needs, and makes the publication, which
// only the owner of the tables could. The role makes its slot itself.
func LeastPrivilegeSQL(cfg Config, catalog []*row.Schema) string {
	cfg = cfg.withDefaults()
	user, database := "lanternist", ""
	if pc, err := normalConfig(cfg); err == nil {
		if pc.User != "" {
			user = pc.User
		}
		database = pc.Database
	}
	var schemas, tables []string
	for _, s := range catalog {
		tables = append(tables, quoteIdentifier(s.Namespace)+"."+quoteIdentifier(s.Name))
		if q := quoteIdentifier(s.Namespace); !slices.Contains(schemas, q) {
			schemas = append(schemas, q)
		}
	}
	role := quoteIdentifier(user)
	var b strings.Builder
	fmt.Fprintf(&b, "-- Run once as a superuser, in the database that is captured.\n")
	fmt.Fprintf(&b, "CREATE ROLE %s LOGIN REPLICATION PASSWORD '…';\n", role)
	if database != "" {
		fmt.Fprintf(&b, "GRANT CONNECT ON DATABASE %s TO %s;\n", quoteIdentifier(database), role)
	}
	if len(tables) > 0 {
		fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA %s TO %s;\n", strings.Join(schemas, ", "), role)
		fmt.Fprintf(&b, "GRANT SELECT ON TABLE %s TO %s;\n", strings.Join(tables, ", "), role)
		fmt.Fprintf(&b, "CREATE PUBLICATION %s FOR TABLE %s\n  WITH (publish_via_partition_root = true);\n",
			quoteIdentifier(cfg.Publication), strings.Join(tables, ", "))
	}
	return b.String()
}
