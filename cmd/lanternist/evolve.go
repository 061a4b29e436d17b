package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
	"github.com/lanternist/lanternist/views"
)

// keyAccepted is where it is kept which definitions of its tables a view goes by: + the view's name.
const keyAccepted = "schema-accepted/"

// acceptance is what a view goes by until a change is acknowledged, or the view itself is another one.
type acceptance struct {
	Source string            `json:"source"` // the view's text
	Tables map[uint32]uint32 `json:"tables"` // by OID, the schema's ID
}

// evolution is what is known of changed tables, and decides which views are paused. It is safe for concurrent use.
type evolution struct {
	mu       sync.Mutex
	latest   map[uint32]*row.Schema // by OID, the newest definition; nil: gone
	problems map[string]string      // by name of table, why it is not followed
	accepted map[string]acceptance  // by name of view
	running  context.Context        //nolint:containedctx // what was asked for through the API goes on until the daemon stops
	remade   map[string]uint32      // tables that were made anew, by name: what they are now
}

// acceptDefinitions notes, durably, that a view goes by the newest definitions of its tables.
func (d *deployment) acceptDefinitions(ctx context.Context, v *views.View) error {
	d.evolution.mu.Lock()
	defer d.evolution.mu.Unlock()
	a := acceptance{Source: v.Source(), Tables: map[uint32]uint32{}}
	for _, s := range v.Schemas() {
		if now := d.evolution.latest[s.OID]; now != nil {
			s = now
		}
		a.Tables[s.OID] = s.ID
	}
	if was, ok := d.evolution.accepted[v.Name()]; ok && was.Source == a.Source && maps.Equal(was.Tables, a.Tables) {
		return nil
	}
	text, err := json.Marshal(a)
	if err == nil {
		err = d.control.Put(ctx, keyAccepted+v.Name(), text)
	}
	if err != nil {
		return fmt.Errorf("write what view %s goes by: %w", v.Name(), err)
	}
	d.evolution.accepted[v.Name()] = a
	return nil
}

// compileAccepted compiles the views: by the tables as they are, or, when that is not possible or would mean something else and
// nobody has said that it may, by the tables as they were. The latter are then paused.
func (d *deployment) compileAccepted(ctx context.Context, defs []*views.Definition) (list []*views.View, err error) {
	e := &d.evolution
	e.latest, e.problems, e.accepted, e.remade = map[uint32]*row.Schema{}, map[string]string{}, map[string]acceptance{}, map[string]uint32{}
	if d.gap != nil && !d.gap.SameDatabase {
		// They go by tables of another database, which the gap was accepted for.
		if err := control.DeleteAll(ctx, d.control, keyAccepted); err != nil {
			return nil, fmt.Errorf("forget what views go by: %w", err)
		}
	}
	err = d.control.List(ctx, keyAccepted, func(key string, value []byte) error {
		var a acceptance
		if err := json.Unmarshal(value, &a); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		e.accepted[strings.TrimPrefix(key, keyAccepted)] = a
		return nil
	})
	if err != nil {
		return nil, err
	}
	catalog := d.catalog.of(d.cfg.Source.Tables)
	for _, s := range catalog {
		e.latest[s.OID] = s
	}
	var errs []error
	for _, def := range defs {
		v, err := d.compileOne(def, catalog)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range v.Schemas() {
			if _, ok := e.latest[s.OID]; !ok {
				e.latest[s.OID] = nil
			}
		}
		list = append(list, v)
	}
	if len(errs) > 0 {
		// Said of all definitions together: names that two views have are noticed, too.
		if _, err := compileViews(d.cfg, defs, catalog); err != nil {
			return nil, err
		}
		return nil, errors.Join(errs...)
	}
	return list, nil
}

func (d *deployment) compileOne(def *views.Definition, catalog []*row.Schema) (*views.View, error) {
	one := []*views.Definition{def}
	now, err := compileViews(d.cfg, one, catalog)
	was, ok := d.evolution.accepted[def.Name]
	if !ok || was.Source != def.Source() {
		if err != nil {
			return nil, err
		}
		return now[0], nil
	}
	var earlier []*row.Schema
	for _, id := range was.Tables {
		if s, ok := d.registry.Schema(id); ok {
			earlier = append(earlier, s)
		}
	}
	for _, s := range catalog {
		if _, known := was.Tables[s.OID]; !known {
			earlier = append(earlier, s)
		}
	}
	before, earlierErr := compileViews(d.cfg, one, earlier)
	switch {
	case earlierErr == nil && (err != nil || now[0].Hash() != before[0].Hash() || !slices.Equal(now[0].Tables(), before[0].Tables())):
		return before[0], nil //nolint:nilerr // the view is paused, which says why
	case err != nil:
		return nil, err
	}
	return now[0], nil
}

// conflicts says why a view is to be paused; nothing when it is not.
func (d *deployment) conflicts(v *views.View) (reasons []string) {
	e := &d.evolution
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, problem := range v.Conflicts(e.latest) {
		reasons = append(reasons, d.shorten(problem.Error()))
	}
	for _, s := range v.Schemas() {
		name := s.QualifiedName()
		if problem := e.problems[name]; problem != "" {
			reasons = append(reasons, problem)
		}
		now := e.latest[s.OID]
		if now == nil || !d.halts(name) {
			continue
		}
		accepted, known := d.registry.Schema(e.accepted[v.Name()].Tables[s.OID])
		if !known {
			continue
		}
		for _, change := range schemas.Diff(accepted, now) {
			text := fmt.Sprintf("%s: %s; `lanternist schemas ack %s` goes on", name, change, name)
			if !slices.Contains(reasons, text) {
				reasons = append(reasons, text)
			}
		}
	}
	return reasons
}

// shorten takes the configuration's folder out of a message: a person knows where that is.
func (d *deployment) shorten(text string) string {
	if d.cfg.Dir == "" {
		return text
	}
	return strings.ReplaceAll(text, strings.TrimSuffix(d.cfg.Dir, "/")+"/", "")
}

// halts says whether every change of a table pauses its views.
func (d *deployment) halts(table string) bool {
	return (d.cfg.Source.SchemaChange == "halt") != slices.Contains(d.cfg.Source.SchemaChangeExcept, table)
}

// judge pauses the projectors of views that cannot go on, and has the others go on.
func (d *deployment) judge() {
	for _, r := range d.runners.list() {
		d.judgeOne(r)
	}
}

func (d *deployment) judgeOne(r *runner) {
	if reasons := d.conflicts(r.view()); len(reasons) > 0 {
		r.Pause(reasons)
	} else {
		r.Resume()
	}
}

// metDefinition is told of each new definition before a row of it is anywhere: a view that cannot go on by it is paused in time.
func (d *deployment) metDefinition(s *row.Schema) {
	e := &d.evolution
	e.mu.Lock()
	_, ours := e.latest[s.OID]
	if ours {
		e.latest[s.OID] = s
	}
	e.mu.Unlock()
	if ours {
		d.judge()
	}
}

// changed is told of the captured tables by Tables.Watch.
func (n *daemon) changed(ctx context.Context, tables []ingest.TableState) error {
	e := &n.evolution
	var current []*row.Schema
	gone := map[string]uint32{}
	e.mu.Lock()
	e.problems = map[string]string{}
	for _, t := range tables {
		e.latest[t.OID] = t.Now
		switch t.Now {
		case nil:
			gone[t.Name] = t.OID
		default:
			current = append(current, t.Now)
			if t.Problem != "" {
				e.problems[t.Now.QualifiedName()] = t.Problem
			}
		}
	}
	e.mu.Unlock()
	n.catalog.put(current)
	n.catalog.drop(slices.Collect(maps.Values(gone)))
	n.judge()
	var errs []error
	for name, old := range gone {
		if slices.ContainsFunc(current, func(s *row.Schema) bool { return s.QualifiedName() == name }) && !n.halts(name) {
			errs = append(errs, n.renew(ctx, name, old))
		}
	}
	return errors.Join(errs...)
}

// renew has the views of a table that was made again built from what it is now, in the background, and forgets what it was.
func (n *daemon) renew(ctx context.Context, name string, old uint32) error {
	e := &n.evolution
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remade[name] == old {
		return nil // it is being done
	}
	e.remade[name] = old
	n.background.Go(func() {
		defer n.tables.Look()
		err := n.acknowledge(ctx, name, old, true)
		if err == nil {
			err = n.tables.Forget(ctx, old)
		}
		if err != nil && ctx.Err() == nil {
			n.log.Warn("views of a table that was made again wait", "table", name, "error", err)
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.latest, old)
		delete(e.remade, name)
	})
	return nil
}

// Acknowledge implements httpapi.Schemas.
func (n *daemon) Acknowledge(ctx context.Context, name string) ([]string, error) {
	var concerned []string
	ctx = n.within(ctx)
	for _, r := range n.runners.list() {
		if slices.ContainsFunc(r.view().Schemas(), func(s *row.Schema) bool { return s.QualifiedName() == name }) && len(r.Paused()) > 0 {
			concerned = append(concerned, r.Name())
		}
	}
	return concerned, n.acknowledge(ctx, name, 0, false)
}

// acknowledge has the views of a table go on by its newest definition: as they are, when they mean the same, else built anew.
// When one cannot be compiled by it, the error says why, and those that can go on. What is built is waited for, or is built in
// the background.
func (n *daemon) acknowledge(ctx context.Context, name string, old uint32, wait bool) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	defs, parseErr := parseViews(n.cfg)
	steps := newQuietSteps()
	var errs []error
	seen := map[string]bool{}
	for _, r := range n.runners.list() {
		v := r.view()
		if seen[v.Name()] || !slices.ContainsFunc(v.Schemas(), func(s *row.Schema) bool {
			return s.QualifiedName() == name || s.OID == old
		}) {
			continue
		}
		seen[v.Name()] = true
		if err := n.goOn(ctx, v, defs, steps, wait); err != nil {
			errs = append(errs, cmp.Or(err, parseErr))
		}
	}
	n.judge()
	return errors.Join(errs...)
}

// goOn compiles a view by the tables as they are now, and has its projectors go on by that.
func (n *daemon) goOn(ctx context.Context, v *views.View, defs []*views.Definition, steps *steps, wait bool) error {
	i := slices.IndexFunc(defs, func(d *views.Definition) bool { return d.Name == v.Name() && d.Source() == v.Source() })
	if i < 0 {
		stored, err := views.Parse(storedFile, []byte(v.Source()))
		if err != nil {
			return err
		}
		defs, i = stored, 0
	}
	compiled, err := compileViews(n.cfg, defs[i:i+1], n.catalog.of(n.names))
	if err != nil {
		if reasons := n.conflicts(v); len(reasons) > 0 {
			return errors.New(strings.Join(reasons, "\n"))
		}
		return err
	}
	n.indexes.add(compiled...)
	if err := n.indexes.ensure(ctx, n.mirror); err != nil {
		return err
	}
	build := func() error {
		for _, r := range n.runners.of(v.Name()) {
			if err := n.redefine(ctx, r, compiled[0], steps); err != nil {
				return err
			}
		}
		return n.acceptDefinitions(ctx, compiled[0])
	}
	if wait || compiled[0].Hash() == v.Hash() && slices.Equal(compiled[0].Tables(), v.Tables()) {
		return build()
	}
	n.background.Go(func() {
		n.changing.Lock()
		defer n.changing.Unlock()
		if err := build(); err != nil && ctx.Err() == nil {
			n.log.Error("view of a changed table not built", "view", v.Name(), "error", err)
		}
		n.judge()
	})
	return nil
}

// resolveTables finds the captured tables of the configuration that have another name now, or are gone: the daemon starts with
// what there is, and views of them are paused.
func (d *deployment) resolveTables(ctx context.Context) error {
	since, err := ingest.CapturedSince(ctx, d.control)
	if err != nil || len(since) == 0 {
		return err
	}
	conn, err := cdc.Connect(ctx, sourceConfig(d.cfg))
	if err != nil {
		return fmt.Errorf("look at the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	names, changed := []string{}, false
	for _, name := range d.cfg.Source.Tables {
		now, err := cdc.CurrentName(ctx, conn, name, d.hadName(name))
		if err != nil {
			return fmt.Errorf("look at the source: %w", err)
		}
		if now != name {
			changed = true
			d.log.Warn("captured table has another name, or is gone", "table", name, "now", now)
		}
		if now != "" && !slices.Contains(names, now) {
			names = append(names, now)
		}
	}
	if !changed || len(names) == 0 {
		return nil
	}
	resolved := *d.cfg
	resolved.Source.Tables = names
	d.cfg = &resolved
	return nil
}

// hadName are the tables that ever had a name while they were captured, by OID.
func (d *deployment) hadName(name string) (oids []uint32) {
	for _, latest := range d.registry.Tables() {
		if slices.ContainsFunc(d.registry.Versions(latest.OID), func(s *row.Schema) bool { return s.QualifiedName() == name }) {
			oids = append(oids, latest.OID)
		}
	}
	return oids
}

// within is a context that ends when ingest does.
func (n *daemon) within(ctx context.Context) context.Context {
	n.evolution.mu.Lock()
	defer n.evolution.mu.Unlock()
	if n.evolution.running != nil {
		return n.evolution.running
	}
	return ctx
}

// tolerate takes out of a report what has become of tables that are captured already and keeps those from being followed: the
// daemon runs for the others, and says so of these.
func (d *deployment) tolerate(ctx context.Context, report *cdc.Report) error {
	since, err := ingest.CapturedSince(ctx, d.control)
	if err != nil {
		return err
	}
	for _, s := range report.Tables {
		if _, captured := since[s.OID]; !captured {
			return nil
		}
	}
	report.Problems = slices.DeleteFunc(report.Problems, func(p cdc.Problem) bool {
		if p.Code != "table-key" && p.Code != "replica-identity" {
			return false
		}
		d.log.Warn("captured table cannot be followed", "why", p.What, "fix", p.Fix)
		return true
	})
	return nil
}
