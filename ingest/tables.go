package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

// Tables adds captured tables and removes them while the stream flows. Its methods may be called from any goroutine; Add,
// Remove and Reload take turns. DESIGN.md of the mirror has the argument why no change is lost.
type Tables struct {
	source   cdc.Config
	registry *schemas.Registry
	pump     *Pump
	loader   *Loader
	mirror   *mirror.Mirror
	log      *slog.Logger

	look     chan struct{}   // has something: Watch is to look now
	turn     chan struct{}   // held by the method that changes something
	captured *capturedTables // guarded by turn

	mu      sync.Mutex
	names   []string      // as in cdc.Config.Tables
	catalog []*row.Schema // of the captured tables, registered
}

// NewTables makes the set of captured tables of parts that do not run yet. source.Tables and catalog are what the
// configuration says, and what LoadCatalog says of that.
func NewTables(source cdc.Config, registry *schemas.Registry, pump *Pump, loader *Loader, m *mirror.Mirror, catalog []*row.Schema, log *slog.Logger) *Tables {
	t := &Tables{
		source: source, registry: registry, pump: pump, loader: loader, mirror: m, log: log,
		turn: make(chan struct{}, 1), look: make(chan struct{}, 1), names: slices.Clone(source.Tables), catalog: slices.Clone(catalog),
	}
	pump.forsaken = t.Look
	return t
}

// Open reads what was captured before, and has the pump capture that of what is configured; when nothing ever was, all of
// it. It is called before the pump runs, when the mirror has caught up with the journal. From then on the set decides what
// is captured.
func (t *Tables) Open(ctx context.Context) error {
	captured, known, err := openCaptured(ctx, t.pump.control)
	if err != nil {
		return err
	}
	if !known {
		for _, s := range t.catalog {
			if err := captured.put(ctx, s.OID, 0); err != nil {
				return err
			}
		}
		if err := captured.setKnown(ctx); err != nil {
			return err
		}
	}
	configured, err := cdc.Captures(t.names)
	if err != nil {
		return err
	}
	t.captured = captured
	t.setCaptures(configured)
	return nil
}

// setCaptures has the pump capture what is configured, of that what was admitted.
func (t *Tables) setCaptures(configured func(*row.Schema) bool) {
	captured := maps.Clone(t.captured.since)
	t.pump.SetCaptures(func(s *row.Schema) (bool, pglogrepl.LSN) {
		since, ok := captured[s.OID]
		return ok && (configured(s) || t.means(configured, s.OID)), since
	})
}

// means says whether a name that is configured means a table, or meant it before it was renamed.
func (t *Tables) means(configured func(*row.Schema) bool, oid uint32) bool {
	return slices.ContainsFunc(t.registry.Versions(oid), configured)
}

// admitted says whether the changes of a table are captured. The caller has the turn.
func (t *Tables) admitted(s *row.Schema) bool {
	_, ok := t.captured.since[s.OID]
	return ok
}

// LoadCatalog reads the definitions of tables, as the publication of source sends them, and registers them.
func LoadCatalog(ctx context.Context, source cdc.Config, registry *schemas.Registry, names []string) ([]*row.Schema, error) {
	conn, err := cdc.Connect(ctx, source)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tables, err := cdc.LoadPublished(ctx, conn, source.Publication, names)
	if err != nil {
		return nil, fmt.Errorf("read the source's catalog: %w", err)
	}
	for i, t := range tables {
		if tables[i], err = registry.Register(ctx, t); err != nil {
			return nil, fmt.Errorf("register %s: %w", t.QualifiedName(), err)
		}
		if len(t.Unsent) > 0 { // not registered: only the catalog of now knows it
			registered := *tables[i]
			registered.Unsent = t.Unsent
			tables[i] = &registered
		}
	}
	return tables, nil
}

// Names are the tables that are captured, in the form of cdc.Config.Tables.
func (t *Tables) Names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.names)
}

// Catalog has the definitions of the captured tables, as of when each was added or loaded anew.
func (t *Tables) Catalog() []*row.Schema {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.catalog)
}

// Start puts right what an earlier process left, while the pump runs, after Open: what the mirror has of tables that are not
// captured any more is dropped, and captured ones that are not complete are loaded. The publication gets no table and
// loses none.
func (t *Tables) Start(ctx context.Context) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	defer t.end()
	if err := t.dropOthers(ctx, t.names); err != nil {
		return err
	}
	var known, fresh []*row.Schema
	for _, s := range t.catalog {
		if t.admitted(s) {
			known = append(known, s)
		} else {
			fresh = append(fresh, s)
		}
	}
	// What was forsaken is left to Watch, which knows whether it can be loaded.
	forsaken := t.mirror.Forsaken()
	known = slices.DeleteFunc(known, func(s *row.Schema) bool { return forsaken[s.OID] != "" })
	// A table that is about to be loaded is loaded as it is; of one that is complete the shape is known, or anything could be.
	if err := t.noteShapes(ctx, known); err != nil {
		return err
	}
	t.loader.Add(known...)
	if len(fresh) == 0 {
		return nil
	}
	// The publication may have got them a moment ago, from this process or from the one before.
	if err := t.settle(ctx, cdc.TableNames(fresh)); err != nil {
		return err
	}
	if err := t.admit(ctx, t.names, fresh); err != nil {
		return err
	}
	if err := t.noteShapes(ctx, fresh); err != nil {
		return err
	}
	t.loader.Add(fresh...)
	return nil
}

// admit begins the capture of tables of which the source sends every change now, from this position on: what the stream
// brings from before may be changes from an earlier time that the tables were captured in, and what was changed after that,
// while they were not, will never come.
func (t *Tables) admit(ctx context.Context, names []string, tables []*row.Schema) error {
	configured, err := cdc.Captures(names)
	if err != nil {
		return err
	}
	since, err := cdc.FlushLSN(ctx, t.source)
	if err != nil {
		return err
	}
	return t.pump.Do(ctx, func(ctx context.Context) error {
		for _, s := range tables {
			if err := t.mirror.DropTable(s.OID); err != nil {
				return err
			}
			if err := t.captured.put(ctx, s.OID, since); err != nil {
				return err
			}
		}
		t.setCaptures(configured)
		return nil
	})
}

// settle waits for as long as it takes to have the source send every change of new tables.
func (t *Tables) settle(ctx context.Context, names []string) error {
	waits := backoff.New(backoff.Config{})
	for {
		err := cdc.SettlePublication(ctx, t.source, names)
		var refused *cdc.PublicationError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &refused):
			t.log.Warn("changes of new tables may be missed until the publication is settled", "error", err)
			return nil
		}
		t.log.Warn("load of new tables waits", "error", err)
		if err := waits.Wait(ctx); err != nil {
			return err
		}
	}
}

// forget has the mirror drop what it has of tables.
func (t *Tables) forget(ctx context.Context, tables []*row.Schema) error {
	return t.pump.Do(ctx, func(context.Context) error {
		for _, s := range tables {
			if err := t.mirror.DropTable(s.OID); err != nil {
				return err
			}
		}
		return nil
	})
}

// Add captures more tables, and returns their definitions as soon as their load has been queued; what is captured
// already stays as it is. A table that cannot be captured is refused before anything has changed. After an error, and
// after a crash, it may be called again. names are those of cdc.Config.Tables; with a pattern that is captured, it is the
// tables that have come to be meant by it.
func (t *Tables) Add(ctx context.Context, names []string) ([]*row.Schema, error) {
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	defer t.end()
	added, err := t.add(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("add tables: %w", err)
	}
	return added, nil
}

func (t *Tables) add(ctx context.Context, names []string) ([]*row.Schema, error) {
	report, err := cdc.PreflightTables(ctx, t.source, names)
	if err != nil {
		return nil, err
	}
	if err := report.Err(); err != nil {
		return nil, err
	}
	all := slices.Clone(t.names)
	for _, n := range names {
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	tables, err := LoadCatalog(ctx, t.source, t.registry, names)
	if err != nil {
		return nil, err
	}
	added := slices.DeleteFunc(slices.Clone(tables), t.admitted)
	if err := t.publish(ctx, names, added); err != nil {
		return nil, err
	}
	if len(added) > 0 {
		if err := t.admit(ctx, all, added); err != nil {
			return nil, err
		}
	}
	t.capture(all, tables)
	if err := t.noteShapes(ctx, tables); err != nil {
		return nil, err
	}
	t.loader.Add(tables...)
	return tables, nil
}

// capture notes what is captured, and the newest definitions of some of that.
func (t *Tables) capture(names []string, tables []*row.Schema) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = names
	for _, s := range tables {
		t.catalog = append(slices.DeleteFunc(t.catalog, func(have *row.Schema) bool { return have.OID == s.OID }), s)
	}
}

// publish makes the source send the changes of the tables, of which some are new.
func (t *Tables) publish(ctx context.Context, names []string, added []*row.Schema) error {
	plan, err := cdc.PlanPublication(ctx, t.source, names, nil)
	if err != nil {
		return err
	}
	if err := cdc.ApplyPublication(ctx, t.source, plan); err != nil {
		return err
	}
	if len(added) == 0 {
		return nil
	}
	return cdc.SettlePublication(ctx, t.source, cdc.TableNames(added))
}

// Remove ends the capture of tables: changes of theirs are not journaled any more, and what the mirror has of them is
// dropped. Views of theirs must be gone. What is not captured any more, or not in the database, is passed over; a table
// that another name means as well is refused.
//
// When the publication may not be changed the tables are removed all the same, and a cdc.PublicationError says what is
// left to be done.
func (t *Tables) Remove(ctx context.Context, names []string) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	defer t.end()
	if err := t.remove(ctx, names); err != nil {
		return fmt.Errorf("remove tables: %w", err)
	}
	return nil
}

func (t *Tables) remove(ctx context.Context, names []string) error {
	left := slices.DeleteFunc(slices.Clone(t.names), func(n string) bool { return slices.Contains(names, n) })
	captures, err := cdc.Captures(left)
	if err != nil {
		return err
	}
	for _, name := range names {
		named, err := cdc.Captures([]string{name})
		if err != nil {
			return err
		}
		for _, s := range t.catalog {
			if !strings.HasSuffix(name, "*") && named(s) && captures(s) {
				return fmt.Errorf("%s is meant by another of the captured names, too: %s", s.QualifiedName(), strings.Join(left, ", "))
			}
		}
	}
	if err := t.dropOthers(ctx, left); err != nil {
		return err
	}
	source := t.source
	source.Tables = left
	plan, err := cdc.PlanPublication(ctx, source, nil, names)
	if err != nil {
		return err
	}
	return cdc.ApplyPublication(ctx, source, plan)
}

// dropOthers captures the tables that names mean, and has loader and mirror forget all others.
func (t *Tables) dropOthers(ctx context.Context, names []string) error {
	configured, err := cdc.Captures(names)
	if err != nil {
		return err
	}
	others := map[uint32]bool{}
	find := func() {
		for oid := range t.captured.since {
			others[oid] = true
		}
		for _, have := range t.mirror.Tables() {
			others[have.OID] = true
		}
		maps.DeleteFunc(others, func(oid uint32, _ bool) bool {
			return t.means(configured, oid)
		})
	}
	find()
	for oid := range others {
		if err := t.loader.Remove(ctx, oid); err != nil {
			return err
		}
	}
	err = t.pump.Do(ctx, func(ctx context.Context) error {
		find()
		for oid := range others {
			// First that it is not captured: should it be configured again, after a crash, it is a new table.
			if err := t.captured.remove(ctx, oid); err != nil {
				return err
			}
		}
		t.setCaptures(configured)
		for oid := range others {
			if err := t.mirror.DropTable(oid); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = slices.Clone(names)
	t.catalog = slices.DeleteFunc(t.catalog, func(s *row.Schema) bool { return others[s.OID] })
	return nil
}

// Reload has the tables that names mean loaded anew: what the mirror has of them is dropped. It is for tables whose rows
// changed without a change that the source sends, as those that get a column with a default do. Views of theirs are built
// anew when the tables are complete. It returns when the load has been queued.
func (t *Tables) Reload(ctx context.Context, names []string) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	defer t.end()
	if err := t.reload(ctx, names); err != nil {
		return fmt.Errorf("reload tables: %w", err)
	}
	return nil
}

func (t *Tables) reload(ctx context.Context, names []string) error {
	tables, err := LoadCatalog(ctx, t.source, t.registry, names)
	if err != nil {
		return err
	}
	for _, s := range tables {
		if !t.admitted(s) {
			return fmt.Errorf("%s is not captured", s.QualifiedName())
		}
	}
	t.capture(t.names, tables)
	for _, s := range tables {
		if err := t.loader.Remove(ctx, s.OID); err != nil {
			return err
		}
		if err := t.forget(ctx, []*row.Schema{s}); err != nil {
			return err
		}
		t.loader.Add(s)
	}
	return nil
}

// begin takes the turn.
func (t *Tables) begin(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Tables) end() { <-t.turn }
