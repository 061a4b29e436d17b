package cdc

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// CurrentName is the name that a table of the configuration has now: its own, when there is a table of that name, a pattern, or
// nothing is known; else that of the one of known, OIDs of tables that had the name, which still exists; "" when none does.
func CurrentName(ctx context.Context, conn *pgx.Conn, name string, known []uint32) (string, error) {
	names, err := parseTables([]string{name})
	if err != nil {
		return "", err
	}
	relations, err := listRelations(ctx, conn)
	if err != nil {
		return "", err
	}
	if _, there := relations.lookup(names[0]); there || names[0].isPattern() || len(known) == 0 {
		return name, nil
	}
	for _, r := range relations {
		for _, oid := range known {
			if r.oid == oid {
				return r.name.String(), nil
			}
		}
	}
	return "", nil
}
