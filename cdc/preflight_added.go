package cdc

import (
	"context"
	"fmt"
)

// PreflightTables is the part of Preflight that is about tables: whether these can be captured, before they are added to
// those of a source that is being captured. Whether the publication has them is not looked at: PlanPublication says
// that. It changes nothing.
func PreflightTables(ctx context.Context, cfg Config, tables []string) (*Report, error) {
	cfg = cfg.withDefaults()
	cfg.Tables = tables
	report := &Report{Source: Source{Slot: cfg.Slot}}
	if err := cfg.Validate(); err != nil {
		for _, one := range unjoin(err) {
			report.block("configuration", one.Error(), "-- correct the source section of the configuration")
		}
		return report, nil
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn.PgConn())
	p := preflight{Report: report, cfg: cfg, conn: conn}
	for _, check := range []func(context.Context) error{p.role, p.tables, p.publishedWhole} {
		if err := check(ctx); err != nil {
			return nil, fmt.Errorf("preflight: %w", err)
		}
	}
	return report, nil
}

// publishedWhole checks what the publication makes of tables that are in it, or will be.
func (p *preflight) publishedWhole(ctx context.Context) error {
	found, err := readPublication(ctx, p.conn, p.cfg.Publication)
	if err != nil || found == nil {
		return err
	}
	p.publicationSettings(found)
	return nil
}
