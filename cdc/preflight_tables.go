package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

// tables checks each table of the configuration.
func (p *preflight) tables(ctx context.Context) error {
	names, err := parseTables(p.cfg.Tables)
	if err != nil {
		return err
	}
	relations, err := listRelations(ctx, p.conn)
	if err != nil {
		return err
	}
	for _, name := range names {
		these, err := relations.find([]tableName{name})
		if err != nil {
			p.block("table-missing", err.Error(), "-- correct source.tables in the configuration")
		}
		for _, r := range these {
			if !slices.Contains(p.found, r) && p.kind(r) {
				p.found = append(p.found, r)
			}
		}
	}
	if p.Tables, err = p.definitions(ctx); err != nil {
		return err
	}
	for i, s := range p.Tables {
		p.key(p.found[i], len(s.Key) > 0)
	}
	if err := p.identityIndexes(ctx); err != nil {
		return err
	}
	return p.rights(ctx)
}

// kind checks that the relation is one that can be captured.
func (p *preflight) kind(r catalogRelation) bool {
	var what string
	switch {
	case r.kind == "v":
		what = "a view"
	case r.kind == "m":
		what = "a materialized view"
	case r.kind == "f":
		what = "a foreign table"
	case r.persistence == "t":
		what = "a temporary table"
	case r.persistence == "u":
		p.block("table-unlogged", fmt.Sprintf("%s is an unlogged table: its changes are not in the log", r.name),
			fmt.Sprintf("ALTER TABLE %s SET LOGGED;", r.name.sql()))
		return false
	case r.isPartition:
		p.block("table-partition", fmt.Sprintf("%s is a partition: its changes are captured under the name of the partitioned table", r.name),
			"-- put the partitioned table into source.tables instead")
		return false
	default:
		return true
	}
	p.block("table-kind", fmt.Sprintf("%s is %s: only tables have changes", r.name, what), "-- put the tables that it reads into source.tables instead")
	return false
}

// definitions describes the tables found; a table without columns is left out of both lists.
func (p *preflight) definitions(ctx context.Context) (schemas []*row.Schema, err error) {
	definitions, err := loadDefinitions(ctx, p.conn, p.cfg.Publication, oidsOf(p.found))
	if err != nil {
		return nil, err
	}
	p.found = slices.DeleteFunc(p.found, func(r catalogRelation) bool {
		if definitions[r.oid] == nil {
			p.block("table-columns", fmt.Sprintf("%s has no column that is captured", r.name), "-- take it out of source.tables")
			return true
		}
		schemas = append(schemas, definitions[r.oid])
		return false
	})
	return schemas, nil
}

// key checks that rows of the table can be told apart, in updates and deletes too.
func (p *preflight) key(r catalogRelation, hasKey bool) {
	if !hasKey {
		p.block("table-key", fmt.Sprintf("%s has no primary key among its captured columns, and no replica identity index: its rows cannot be told apart", r.name),
			fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…);", r.name.sql()))
		return
	}
	if r.identity == "n" {
		p.block("replica-identity", fmt.Sprintf("%s has replica identity nothing: the server refuses updates and deletes of a published table like that", r.name),
			fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", r.name.sql()))
	}
}

// identityIndexes checks that a replica identity index of a table with a primary key has the key's columns:
// a deleted row is known by what the index has.
func (p *preflight) identityIndexes(ctx context.Context) error {
	rows, err := p.conn.Query(ctx, `
		SELECT c.oid, i.relname::text FROM pg_class c
		  JOIN pg_index pk ON pk.indrelid = c.oid AND pk.indisprimary
		  JOIN pg_index ri ON ri.indrelid = c.oid AND ri.indisreplident
		  JOIN pg_class i ON i.oid = ri.indexrelid
		 WHERE c.oid = ANY($1::oid[]) AND c.relreplident = 'i'
		   AND NOT (pk.indkey::int2[])[0:pk.indnkeyatts - 1] <@ ri.indkey::int2[]`, oidsOf(p.found))
	if err != nil {
		return fmt.Errorf("read replica identities: %w", err)
	}
	var oid uint32
	var index string
	_, err = pgx.ForEachRow(rows, []any{&oid, &index}, func() error {
		for _, r := range p.found {
			if r.oid == oid {
				p.block("replica-identity", fmt.Sprintf("the replica identity index %q of %s does not have the primary key's columns: deleted rows could not be found by key", index, r.name),
					fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", r.name.sql()))
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read replica identities: %w", err)
	}
	return nil
}

// rights checks what the user may do with the tables.
func (p *preflight) rights(ctx context.Context) error {
	rows, err := p.conn.Query(ctx, `
		SELECT c.oid, has_schema_privilege(c.relnamespace, 'USAGE'), has_table_privilege(c.oid, 'SELECT'),
		       pg_has_role(c.relowner, 'USAGE'), row_security_active(c.oid)
		  FROM pg_class c WHERE c.oid = ANY($1::oid[])`, oidsOf(p.found))
	if err != nil {
		return fmt.Errorf("read rights: %w", err)
	}
	p.owned = map[uint32]bool{}
	var schemas, unreadable, filtered []string
	var oid uint32
	var usage, selects, owns, security bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &usage, &selects, &owns, &security}, func() error {
		i := slices.IndexFunc(p.found, func(r catalogRelation) bool { return r.oid == oid })
		r := p.found[i]
		p.owned[oid] = owns
		if !usage && !slices.Contains(schemas, r.name.Namespace) {
			schemas = append(schemas, r.name.Namespace)
		}
		if !selects {
			unreadable = append(unreadable, r.name.sql())
		}
		if security {
			filtered = append(filtered, r.name.String())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read rights: %w", err)
	}
	user := quoteIdentifier(p.user)
	for _, s := range schemas {
		p.block("schema-usage", fmt.Sprintf("role %q may not use schema %s", p.user, s), fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", quoteIdentifier(s), user))
	}
	if len(unreadable) > 0 {
		list := strings.Join(unreadable, ", ")
		p.block("table-select", fmt.Sprintf("role %q may not read %s, which the first load copies", p.user, list), fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s;", list, user))
	}
	if len(filtered) > 0 {
		p.block("row-security", fmt.Sprintf("row-level security hides rows of %s from role %q, but their changes are in the log", strings.Join(filtered, ", "), p.user),
			fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", user))
	}
	return nil
}
