package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/row"
)

// keyShape is where it is kept which shape (cdc.Shape) a table's rows in the mirror go by: + the OID.
const keyShape = "ingest/shape/"

// TableState is what is known of a captured table's definition in the source.
type TableState struct {
	OID  uint32
	Name string // as it was captured
	// Now is its definition in the source's catalog; nil when the table is gone.
	Now *row.Schema
	// Problem says why the table is not followed, with what can be done; "" when it is.
	Problem string
}

// WatchConfig says how a source is watched for changes of its tables.
type WatchConfig struct {
	// Every is how long after a look at the catalog the next one is. Default 5s.
	Every time.Duration
	// Changed is told of all captured tables after each look, and of one that is gone before its successor is captured. Optional.
	Changed func(ctx context.Context, tables []TableState) error
}

// Watch looks at the source's catalog again and again, and whenever Look asks, until ctx ends. What changes in rows without
// events makes it load the table again; a table that has left the publication is put back and loaded again; one that was
// dropped and made anew is captured in its place. It runs after Start. A source that is away is waited for.
func (t *Tables) Watch(ctx context.Context, cfg WatchConfig) error {
	every := cmp.Or(cfg.Every, 5*time.Second)
	w := &watcher{Tables: t, changed: cfg.Changed}
	defer w.disconnect()
	for {
		err := w.turnOf(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(*fatal)):
			return err
		case err != nil:
			w.disconnect()
			t.log.Warn("tables not looked at", "error", err)
		}
		timer := time.NewTimer(every)
		select {
		case <-t.look:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// Look has Watch look at the catalog now.
func (t *Tables) Look() {
	select {
	case t.look <- struct{}{}:
	default:
	}
}

// watcher is one Watch.
type watcher struct {
	*Tables
	conn    *pgx.Conn
	changed func(context.Context, []TableState) error
}

func (w *watcher) disconnect() {
	if w.conn != nil {
		_ = w.conn.Close(context.Background()) // it may be broken already
		w.conn = nil
	}
}

// turnOf looks once, in turn with whoever adds and removes tables.
func (w *watcher) turnOf(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	states, err := w.tables(ctx)
	w.end()
	if err != nil || w.changed == nil {
		return err
	}
	return w.changed(ctx, states)
}

// tables looks at every captured table and puts right what can be.
func (w *watcher) tables(ctx context.Context) (states []TableState, err error) {
	if w.conn == nil {
		if w.conn, err = cdc.Connect(ctx, w.source); err != nil {
			return nil, err
		}
	}
	oids := slices.Sorted(maps.Keys(w.captured.since))
	shapes, err := cdc.LoadShapes(ctx, w.conn, cmp.Or(w.source.Publication, "lanternist"), oids)
	if err != nil {
		return nil, err
	}
	forsaken := w.mirror.Forsaken()
	for _, oid := range oids {
		state, err := w.table(ctx, oid, shapes[oid], forsaken[oid])
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	return states, nil
}

// table compares one table with what was known of it.
func (w *watcher) table(ctx context.Context, oid uint32, now *cdc.Shape, forsaken string) (TableState, error) {
	was, err := w.shape(ctx, oid)
	if err != nil {
		return TableState{}, err
	}
	state := TableState{OID: oid, Name: w.nameOf(oid, was)}
	if now == nil {
		if was == nil {
			return state, nil
		}
		return state, w.replace(ctx, &state)
	}
	if state.Now, err = w.registry.Register(ctx, now.Definition); err != nil {
		return state, &fatal{fmt.Errorf("register %s: %w", now.Definition.QualifiedName(), err)}
	}
	if !now.Sends() {
		if state.Problem, err = w.publishAgain(ctx, now); err != nil {
			return state, err
		}
		if state.Problem != "" {
			return state, w.abandon(ctx, state.Now, now)
		}
		return state, w.again(ctx, state.Now, now, "it had left the publication", true)
	}
	if state.Problem = unfollowed(now); state.Problem != "" && forsaken != "" {
		return state, nil
	}
	state.Problem = ""
	hole := was != nil && (was.Published != now.Published || !was.Sends())
	why := forsaken
	if hole {
		why = "it was not in the publication, or not with all of its changes, for a while"
	}
	if why == "" && was != nil {
		why, err = now.Rewritten(was, func(partition uint32) (bool, error) { return cdc.Attached(ctx, w.conn, partition) })
		if err != nil {
			return state, err
		}
	}
	if why != "" {
		return state, w.again(ctx, state.Now, now, why, hole)
	}
	w.loader.Add(state.Now) // nothing, unless it was not to be loaded for a while
	if was == nil || !sameShape(was, now) {
		w.capture(w.names, []*row.Schema{state.Now})
		return state, w.putShape(ctx, oid, now)
	}
	return state, nil
}

func sameShape(a, b *cdc.Shape) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// unfollowed says why changes of a table cannot be followed as it is defined; "" when they can.
func unfollowed(s *cdc.Shape) string {
	if len(s.Definition.Key) == 0 {
		return fmt.Sprintf("%s has no primary key and no replica identity index: ALTER TABLE %s ADD PRIMARY KEY (…);", s.Definition.QualifiedName(), s.Definition.QualifiedName())
	}
	if s.Uncovered {
		return fmt.Sprintf("the replica identity index of %s does not have the columns of its primary key: ALTER TABLE %s REPLICA IDENTITY DEFAULT;", s.Definition.QualifiedName(), s.Definition.QualifiedName())
	}
	return ""
}

// abandon has the mirror forget a table of which changes are missed, until they are sent again.
func (w *watcher) abandon(ctx context.Context, s *row.Schema, now *cdc.Shape) error {
	if err := w.loader.Remove(ctx, s.OID); err != nil {
		return err
	}
	if _, begun, err := w.mirror.LoadState(s.OID); err != nil || !begun {
		return err
	}
	if err := w.putShape(ctx, s.OID, now); err != nil {
		return err
	}
	return w.forget(ctx, []*row.Schema{s})
}

// nameOf is the name that a table was captured by.
func (w *watcher) nameOf(oid uint32, was *cdc.Shape) string {
	if was != nil {
		return was.Definition.QualifiedName()
	}
	if s, ok := w.registry.Latest(oid); ok {
		return s.QualifiedName()
	}
	return strconv.Itoa(int(oid))
}

// again has a table loaded again, and, when there is a hole in its changes, captured from now on. Its shape is noted when the
// mirror has forgotten it, so that a crash in between only has it loaded twice.
func (w *watcher) again(ctx context.Context, s *row.Schema, now *cdc.Shape, why string, hole bool) error {
	w.log.Warn("table is loaded again", "table", s.QualifiedName(), "why", why)
	if err := w.loader.Remove(ctx, s.OID); err != nil {
		return err
	}
	if hole {
		err := w.admit(ctx, w.names, []*row.Schema{s})
		if err != nil {
			return err
		}
	} else if err := w.forget(ctx, []*row.Schema{s}); err != nil {
		return err
	}
	if err := w.putShape(ctx, s.OID, now); err != nil {
		return err
	}
	w.capture(w.names, []*row.Schema{s})
	w.loader.Add(s)
	return nil
}

// publishAgain puts a table back into the publication. What it returns says why that is not done.
func (w *watcher) publishAgain(ctx context.Context, now *cdc.Shape) (problem string, err error) {
	name := now.Definition.QualifiedName()
	w.log.Warn("table has left the publication", "table", name, "sends", now.Options)
	if now.Published != 0 {
		return fmt.Sprintf("publication %s sends only %q of %s: ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);",
			w.source.Publication, now.Options, name, w.source.Publication), nil
	}
	plan, err := cdc.PlanPublication(ctx, w.source, []string{name}, nil)
	if err == nil {
		err = cdc.ApplyPublication(ctx, w.source, plan)
	}
	var refused *cdc.PublicationError
	if errors.As(err, &refused) {
		return fmt.Sprintf("%s is not in the publication: %s", name, refused.Error()), nil
	}
	if err != nil {
		return "", err
	}
	if err := cdc.SettlePublication(ctx, w.source, []string{name}); err != nil {
		return "", err
	}
	shapes, err := cdc.LoadShapes(ctx, w.conn, w.source.Publication, []uint32{now.Definition.OID})
	if err != nil {
		return "", err
	}
	if put := shapes[now.Definition.OID]; put != nil {
		*now = *put
	}
	if !now.Sends() {
		return name + " is not in the publication", nil
	}
	return "", nil
}

// replace captures the table that has taken the name of one that is gone, if there is one.
func (w *watcher) replace(ctx context.Context, gone *TableState) error {
	gone.Problem = fmt.Sprintf("table %s is not there any more: take it and the views of it out of the configuration and run `lanternist apply`", gone.Name)
	made, err := cdc.LoadPublished(ctx, w.conn, w.source.Publication, []string{gone.Name})
	if err != nil || len(made) != 1 || made[0].OID == gone.OID {
		return nil //nolint:nilerr // there is none
	}
	if !w.admitted(made[0]) {
		// Whoever goes by the table that is gone stops before there is another one to be taken for it.
		if w.changed != nil {
			if err := w.changed(ctx, []TableState{*gone}); err != nil {
				return err
			}
		}
		w.log.Warn("table was dropped and made again", "table", gone.Name, "was", gone.OID, "is", made[0].OID)
		if _, err := w.add(ctx, []string{gone.Name}); err != nil {
			gone.Problem = fmt.Sprintf("table %s was dropped and made again, and cannot be captured: %v", gone.Name, err)
			return nil
		}
		w.Look()
	}
	gone.Problem = fmt.Sprintf("table %s was dropped and made again", gone.Name)
	return nil
}

// Forget ends what is held of a table that is not in the source any more, when nobody needs it.
func (t *Tables) Forget(ctx context.Context, oid uint32) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	defer t.end()
	if err := t.loader.Remove(ctx, oid); err != nil {
		return err
	}
	err := t.pump.Do(ctx, func(ctx context.Context) error {
		if err := t.captured.remove(ctx, oid); err != nil {
			return err
		}
		return t.mirror.DropTable(oid)
	})
	if err != nil {
		return fmt.Errorf("forget table %d: %w", oid, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.catalog = slices.DeleteFunc(t.catalog, func(s *row.Schema) bool { return s.OID == oid })
	return t.pump.control.Delete(ctx, shapeKey(oid))
}

func shapeKey(oid uint32) string { return keyShape + strconv.FormatUint(uint64(oid), 10) }

// shape is the shape that the table's rows in the mirror go by; nil when none is known.
func (t *Tables) shape(ctx context.Context, oid uint32) (*cdc.Shape, error) {
	text, ok, err := t.pump.control.Get(ctx, shapeKey(oid))
	if err != nil || !ok {
		return nil, err
	}
	s := new(cdc.Shape)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, &fatal{fmt.Errorf("%s: %w", shapeKey(oid), err)}
	}
	return s, nil
}

func (t *Tables) putShape(ctx context.Context, oid uint32, s *cdc.Shape) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := t.pump.control.Put(ctx, shapeKey(oid), text); err != nil {
		return fmt.Errorf("write the shape of %s: %w", s.Definition.QualifiedName(), err)
	}
	return nil
}

// noteShapes notes the shapes of tables that are about to be loaded, unless they are known.
func (t *Tables) noteShapes(ctx context.Context, tables []*row.Schema) error {
	var oids []uint32
	for _, s := range tables {
		if known, err := t.shape(ctx, s.OID); err != nil {
			return err
		} else if known == nil {
			oids = append(oids, s.OID)
		}
	}
	if len(oids) == 0 {
		return nil
	}
	conn, err := cdc.Connect(ctx, t.source)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	shapes, err := cdc.LoadShapes(ctx, conn, cmp.Or(t.source.Publication, "lanternist"), oids)
	if err != nil {
		return err
	}
	for oid, s := range shapes {
		for _, loaded := range tables {
			if loaded.OID == oid && !slices.EqualFunc(loaded.Columns, s.Definition.Columns, func(a, b row.Column) bool { return a.Number == b.Number && a.Name == b.Name }) {
				s.Definition, s.File, s.Attributes = loaded, 0, "" // it was changed a moment ago: whether rows were is not known
			}
		}
		if err := t.putShape(ctx, oid, s); err != nil {
			return err
		}
	}
	return nil
}
