package ingest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
)

// Where it is kept which tables are captured: by OID, with the position since when; and that this is kept at all, which is
// not so in what a version left that did not know of tables that come later.
const (
	keyCaptured      = "ingest/captured/"
	keyCapturedKnown = "ingest/captured-known"
)

// capturedTables remembers since which position each table is captured: transactions that were committed before are not,
// also when they come again after a crash. The source may have sent some of their changes, and others not.
type capturedTables struct {
	store control.Store
	since map[uint32]pglogrepl.LSN // by OID; as stored
}

// openCaptured reads what is captured. known is false when that was never written.
func openCaptured(ctx context.Context, store control.Store) (c *capturedTables, known bool, err error) {
	c = &capturedTables{store: store, since: map[uint32]pglogrepl.LSN{}}
	err = store.List(ctx, keyCaptured, func(key string, value []byte) error {
		oid, err := strconv.ParseUint(strings.TrimPrefix(key, keyCaptured), 10, 32)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		lsn, err := pglogrepl.ParseLSN(string(value))
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		c.since[uint32(oid)] = lsn
		return nil
	})
	if err == nil {
		_, known, err = store.Get(ctx, keyCapturedKnown)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read captured tables: %w", err)
	}
	return c, known, nil
}

// setKnown notes that what is not stored is not captured.
func (c *capturedTables) setKnown(ctx context.Context) error {
	if err := c.store.Put(ctx, keyCapturedKnown, []byte("1")); err != nil {
		return fmt.Errorf("write captured tables: %w", err)
	}
	return nil
}

// put notes, durably, that a table is captured since a position.
func (c *capturedTables) put(ctx context.Context, oid uint32, since pglogrepl.LSN) error {
	if err := c.store.Put(ctx, capturedKey(oid), []byte(since.String())); err != nil {
		return fmt.Errorf("write captured tables: %w", err)
	}
	c.since[oid] = since
	return nil
}

// remove notes, durably, that a table is not captured.
func (c *capturedTables) remove(ctx context.Context, oid uint32) error {
	if _, ok := c.since[oid]; !ok {
		return nil
	}
	if err := c.store.Delete(ctx, capturedKey(oid)); err != nil {
		return fmt.Errorf("write captured tables: %w", err)
	}
	delete(c.since, oid)
	return nil
}

func capturedKey(oid uint32) string { return keyCaptured + strconv.FormatUint(uint64(oid), 10) }

// CapturedSince reads from which position on each captured table, by OID, has been captured without a gap.
func CapturedSince(ctx context.Context, store control.Store) (map[uint32]pglogrepl.LSN, error) {
	c, _, err := openCaptured(ctx, store)
	if err != nil {
		return nil, err
	}
	return c.since, nil
}
