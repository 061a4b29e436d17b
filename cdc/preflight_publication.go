package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publication checks that the publication sends all changes of all tables, or can be made to.
func (p *preflight) publication(ctx context.Context) error {
	found, err := readPublication(ctx, p.conn, p.cfg.Publication)
	if err != nil {
		return err
	}
	if sql := publicationSQL(p.cfg.Publication, found, p.found); sql != "" && len(p.found) > 0 {
		p.publicationTables(found, sql+";")
	}
	if found == nil {
		return nil
	}
	p.publicationSettings(found)
	return p.extraTables(ctx, found)
}

// publicationSettings checks that what the publication sends of the tables is all of their changes.
func (p *preflight) publicationSettings(found *publication) {
	name := quoteIdentifier(p.cfg.Publication)
	if missing := found.missingOperations(); len(missing) > 0 {
		p.block("publication-operations", fmt.Sprintf("publication %s does not publish %s", p.cfg.Publication, strings.Join(missing, ", ")),
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", name))
	}
	partitioned := slices.IndexFunc(p.found, func(r catalogRelation) bool { return r.kind == "p" })
	if partitioned >= 0 && !found.viaRoot {
		p.block("publication-partitions", fmt.Sprintf("publication %s sends changes of partitions under their own names, not as %s", p.cfg.Publication, p.found[partitioned].name),
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", name))
	}
	for _, r := range p.found {
		if slices.Contains(found.filters, r.oid) {
			p.block("publication-filter", fmt.Sprintf("publication %s filters the rows of %s, but the first load copies all of them", p.cfg.Publication, r.name),
				fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE %[2]s; ALTER PUBLICATION %[1]s ADD TABLE %[2]s; -- and filter with where: in the views", name, r.name.sql()))
		}
	}
}

// publicationTables reports a publication that lacks tables, or does not exist, unless Setup may change that.
func (p *preflight) publicationTables(found *publication, sql string) {
	what := fmt.Sprintf("publication %s does not exist", p.cfg.Publication)
	code := "publication-missing"
	mayChange := p.mayCreate
	if found != nil {
		what = fmt.Sprintf("publication %s does not have all tables", p.cfg.Publication)
		code = "publication-tables"
		mayChange = found.ownedByUs
	}
	if !p.cfg.CreatePublication {
		p.block(code, what+", and source.create is false", sql)
		return
	}
	for _, r := range p.found {
		mayChange = mayChange && (p.superuser || p.owned[r.oid])
	}
	if !mayChange {
		p.block(code, what+fmt.Sprintf(", and role %q may not change that: it takes the owner of all the tables, who may create in the database", p.user),
			sql+" -- as a superuser")
	}
}

// extraTables warns of tables that are published but not in the configuration.
func (p *preflight) extraTables(ctx context.Context, found *publication) error {
	var extra []uint32
	for _, oid := range found.tables {
		if !slices.ContainsFunc(p.found, func(r catalogRelation) bool { return r.oid == oid }) {
			extra = append(extra, oid)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	rows, err := p.conn.Query(ctx, `SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = ANY($1::oid[]) ORDER BY 1`, extra)
	if err != nil {
		return fmt.Errorf("read publication: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read publication: %w", err)
	}
	p.warn("publication-extra", fmt.Sprintf("publication %s sends changes of tables that are not in the configuration: %s", p.cfg.Publication, strings.Join(names, ", ")),
		"-- put them into source.tables, or take them out of the publication to save the traffic")
	return nil
}

// missingOperations names what the publication does not publish.
func (p *publication) missingOperations() (missing []string) {
	for _, operation := range []struct {
		name      string
		published bool
	}{{"inserts", p.inserts}, {"updates", p.updates}, {"deletes", p.deletes}, {"truncates", p.truncates}} {
		if !operation.published {
			missing = append(missing, operation.name)
		}
	}
	return missing
}
