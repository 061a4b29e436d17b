package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/plan"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// lookEvery is how often it is looked whether something that goes on by itself has come to its end.
const lookEvery = 100 * time.Millisecond

// carryOut changes the running deployment into the one that is wanted, in an order in which nothing is lost and nothing is missed:
// tables are captured, indexes built, projectors added; then views are built while the present documents are followed and served;
// what nobody needs any more goes last. Each part looks at what there is, not at what was planned, so that one that was interrupted is
// finished when it is asked for again, or by the next start.
func (n *daemon) carryOut(ctx context.Context, t *target, p *plan.Plan, report func([]httpapi.Step)) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	steps := newSteps(p, report)
	compiled, err := n.addTables(ctx, t, steps)
	if err != nil {
		return err
	}
	defer n.judge()
	n.indexes.add(compiled...)
	if err := n.addIndexes(ctx, steps); err != nil {
		return err
	}
	added, err := n.addProjectors(ctx, compiled)
	if err != nil {
		return err
	}
	var building errgroup.Group
	building.Go(func() error { return n.awaitLoads(ctx, steps) })
	for _, r := range added {
		building.Go(func() error { return n.awaitFirst(ctx, r, steps) })
	}
	for _, v := range compiled {
		for _, r := range n.runners.of(v.Name()) {
			if !slices.Contains(added, r) && slices.Contains(sinksOf(v), r.sink) {
				building.Go(func() error {
					if err := n.redefine(ctx, r, v, steps); err != nil {
						return err
					}
					return n.acceptDefinitions(ctx, v)
				})
			}
		}
	}
	removed := n.removeProjectors(ctx, compiled, p.KeepData, steps)
	if err := errors.Join(building.Wait(), removed); err != nil {
		return err
	}
	return errors.Join(n.removeTables(ctx, t.names, steps), n.record(ctx))
}

// addTables captures what is new, and compiles the views by the tables as they are now.
func (n *daemon) addTables(ctx context.Context, t *target, steps *steps) ([]*views.View, error) {
	names, err := n.newNames(t)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		steps.each("table", plan.Add, httpapi.StepRunning)
		if _, err := n.tables.Add(ctx, names); err != nil {
			steps.failed("table", plan.Add, err)
			return nil, err
		}
	}
	source := sourceConfig(n.cfg)
	tables, err := ingest.LoadCatalog(ctx, source, n.registry, t.names)
	if err != nil {
		return nil, err
	}
	n.catalog.put(tables)
	n.names = t.names
	if err := n.record(ctx); err != nil {
		return nil, err
	}
	return views.Compile(t.defs, n.catalog.of(t.names))
}

// newNames are the wanted names that are not captured, and patterns that mean a table which is not.
func (n *daemon) newNames(t *target) (names []string, err error) {
	held, known := n.tables.Names(), n.catalog.all()
	captured := func(oid uint32) bool {
		return slices.ContainsFunc(known, func(s *row.Schema) bool { return s.OID == oid })
	}
	for _, name := range t.names {
		if !slices.Contains(held, name) {
			names = append(names, name)
			continue
		}
		meant, err := cdc.Captures([]string{name})
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(t.tables, func(s *row.Schema) bool { return meant(s) && !captured(s.OID) }) {
			names = append(names, name)
		}
	}
	return names, nil
}

// addIndexes has the mirror build what the views need besides what it has.
func (n *daemon) addIndexes(ctx context.Context, steps *steps) error {
	steps.each("index", plan.Add, httpapi.StepRunning)
	if err := n.indexes.ensure(ctx, n.mirror); err != nil {
		steps.failed("index", plan.Add, err)
		return fmt.Errorf("build indexes: %w", err)
	}
	steps.each("index", plan.Add, httpapi.StepDone)
	steps.each("index", plan.Remove, httpapi.StepDone)
	return nil
}

// addProjectors starts those of views that are new, or new in a sink.
func (n *daemon) addProjectors(ctx context.Context, compiled []*views.View) (added []*runner, err error) {
	for _, v := range compiled {
		for _, def := range n.definitions(v) {
			if n.runners.find(v.Name()+"."+sinkOf(def.Store)) != nil {
				continue
			}
			r, err := n.makeRunner(def)
			if err != nil {
				return nil, err
			}
			r.added = true
			if err := n.acceptDefinitions(ctx, v); err != nil {
				return nil, err
			}
			n.earlier.remove(r.Name()) // what an earlier view of the name has left is for this one to go on with, or to retire
			n.runners.add(r)
			added = append(added, r)
			n.log.Info("projector added", "projector", r.Name())
		}
	}
	// They are in the record before they can have made anything that another process would not know of.
	if err := n.record(ctx); err != nil {
		return nil, err
	}
	for _, r := range added {
		n.serving(r.view().Name())
	}
	return added, nil
}

// awaitLoads waits until the tables that were added are complete.
func (n *daemon) awaitLoads(ctx context.Context, steps *steps) error {
	for _, oid := range steps.tables() {
		for !n.mirror.Loaded(oid) {
			p := n.loader.Progress()
			steps.table(oid, httpapi.StepRunning, p.Rows, p.Total)
			if err := pause(ctx); err != nil {
				return err
			}
		}
		steps.table(oid, httpapi.StepDone, 0, 0)
	}
	return nil
}

// awaitFirst waits until a projector that was added has something to show.
func (n *daemon) awaitFirst(ctx context.Context, r *runner, steps *steps) error {
	for !r.shows() {
		s := r.Status()
		if s.State == projectors.StateStopped && s.Error != "" {
			err := fmt.Errorf("%s: %s", r.Name(), s.Error)
			steps.projector(r.Name(), httpapi.StepFailed, err)
			return err
		}
		steps.building(r.Name(), s.Build)
		if err := pause(ctx); err != nil {
			return err
		}
	}
	n.serving(r.view().Name())
	steps.projector(r.Name(), httpapi.StepDone, nil)
	return nil
}

// redefine has a projector build a view by another definition, if it is another. One that cannot begin now, because it is starting,
// waits for a load or makes a generation of its own accord, is asked again.
func (n *daemon) redefine(ctx context.Context, r *runner, v *views.View, steps *steps) error {
	was := r.view()
	same := was.Hash() == v.Hash()
	if same && slices.Equal(was.Tables(), v.Tables()) && r.wanted.Hash() == v.Hash() {
		return nil
	}
	r.wanted = v
	def, err := redefined(r.Definition().Store, v)
	if err != nil {
		return err
	}
	for {
		err = r.Redefine(ctx, def, func(done, total int64) { steps.count(r.Name(), done, total) }, nil)
		if err == nil && same && !slices.Equal(was.Tables(), v.Tables()) {
			err = r.Rebuild(ctx, func(done, total int64) { steps.count(r.Name(), done, total) })
		}
		if !errors.Is(err, projectors.ErrRebuilding) && !errors.Is(err, projectors.ErrNotRunning) {
			break
		}
		if r.view().Hash() == v.Hash() && !same {
			err = nil // the projector has built it by itself, as at the start
			break
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	if err != nil {
		steps.projector(r.Name(), httpapi.StepFailed, err)
		return err
	}
	if err := n.record(ctx); err != nil {
		return err
	}
	steps.projector(r.Name(), httpapi.StepDone, nil)
	return nil
}

// removeProjectors takes out those that are not wanted any more, and what the sinks hold of them.
func (n *daemon) removeProjectors(ctx context.Context, wanted []*views.View, keep bool, steps *steps) error {
	names := map[string]bool{}
	for _, v := range wanted {
		for _, sink := range sinksOf(v) {
			names[v.Name()+"."+sink] = true
		}
	}
	for _, r := range n.runners.list() {
		if names[r.Name()] {
			continue
		}
		steps.projector(r.Name(), httpapi.StepRunning, nil)
		gone := plan.Describe(r.view(), r.sink)
		n.earlier.put(gone)
		n.unserve(r)
		n.runners.remove(r)
		n.journal.Release(r.Name())
		n.log.Info("projector removed", "projector", r.Name())
	}
	var errs []error
	for _, p := range n.earlier.list() {
		err := n.retire(ctx, p, keep)
		if err != nil {
			steps.projector(p.Name, httpapi.StepFailed, err)
			errs = append(errs, err)
			continue
		}
		steps.projector(p.Name, httpapi.StepDone, nil)
	}
	return errors.Join(append(errs, n.record(ctx))...)
}

// retire removes what the sink holds of a projector that is gone, unless it is to be kept, and its letters. What fails is tried again
// by tidy.
func (n *daemon) retire(ctx context.Context, p plan.Projector, keep bool) error {
	if !keep {
		if err := n.dropView(ctx, p); err != nil {
			return fmt.Errorf("retire %s: %w", p.Name, err)
		}
	}
	_, err := n.letters.DiscardAll(ctx, deadletter.Filter{View: p.View}, func(l *deadletter.Letter) bool {
		return l.Projector == p.Name || strings.HasPrefix(l.Projector, p.Name+"-g")
	}, nil)
	if err != nil {
		return fmt.Errorf("discard dead letters of %s: %w", p.Name, err)
	}
	n.earlier.remove(p.Name)
	n.log.Info("view retired", "view", p.View, "sink", p.Sink, "documents_kept", keep)
	return nil
}

// dropView removes a view from a sink.
func (n *daemon) dropView(ctx context.Context, p plan.Projector) error {
	switch {
	case p.Sink == "search" && n.search != nil:
		return n.search.Drop(ctx, p.View)
	case p.Sink == "cache" && n.cache != nil:
		return n.cache.Drop(ctx, p.View)
	}
	n.log.Warn("documents of a removed view stay where they are: their sink is not configured any more", "view", p.View, "sink", p.Sink)
	return nil
}

// removeTables ends the capture of tables that are not wanted any more. Documents that are made of them keep them.
func (n *daemon) removeTables(ctx context.Context, wanted []string, steps *steps) error {
	var names []string
	for _, name := range n.tables.Names() {
		if !slices.Contains(wanted, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	captures, err := cdc.Captures(wanted)
	if err != nil {
		return err
	}
	for _, s := range n.catalog.all() {
		if user := n.userOf(s.OID); !captures(s) && user != "" {
			return fmt.Errorf("table %s is still captured: documents of %s are made of it", s.QualifiedName(), user)
		}
	}
	steps.each("table", plan.Remove, httpapi.StepRunning)
	err = n.tables.Remove(ctx, names)
	var refused *cdc.PublicationError
	if errors.As(err, &refused) { // they are removed all the same
		n.log.Warn("publication still has tables that are not captured any more", "error", err)
		steps.note("table", plan.Remove, refused.Error())
	} else if err != nil {
		steps.failed("table", plan.Remove, err)
		return err
	}
	n.catalog.keep(wanted)
	n.indexes.keep(n.catalog.all())
	n.log.Info("tables removed", "names", names)
	steps.each("table", plan.Remove, httpapi.StepDone)
	return nil
}

// userOf names a view whose documents are made of a table, or may be; "" when there is none.
func (n *daemon) userOf(oid uint32) string {
	for _, r := range n.runners.list() {
		if slices.Contains(r.view().Tables(), oid) || slices.Contains(r.wanted.Tables(), oid) {
			return r.view().Name()
		}
		if s := r.Status(); s.Generation == 0 && s.State != projectors.StateWaiting && s.State != projectors.StateBuilding {
			return r.view().Name() // its sink has not told yet what it holds
		}
	}
	return ""
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tidyEvery is how often it is looked whether something is left over.
const tidyEvery = time.Second

// tidy finishes what an earlier process or change has begun: what is not configured any more goes as soon as nobody needs it. It
// also keeps the record.
func (n *daemon) tidy(ctx context.Context) error {
	steps := newSteps(&plan.Plan{}, func([]httpapi.Step) {})
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	told := ""
	for {
		if n.changing.TryLock() {
			err := n.removeLeftovers(ctx, steps)
			n.changing.Unlock()
			switch {
			case err == nil || ctx.Err() != nil:
				told = ""
			case err.Error() != told:
				told = err.Error()
				n.log.Info("what is not configured any more is still there", "why", told)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// removeLeftovers removes what is not configured any more, as far as nobody needs it. The caller holds changing.
func (n *daemon) removeLeftovers(ctx context.Context, steps *steps) error {
	var errs []error
	for _, p := range n.earlier.list() {
		errs = append(errs, n.retire(ctx, p, false))
	}
	errs = append(errs, n.removeTables(ctx, n.names, steps), n.record(ctx))
	return errors.Join(errs...)
}

// steps tells how far a change is. It is safe for concurrent use.
type steps struct {
	mu     sync.Mutex
	list   []httpapi.Step
	oids   map[uint32]int // of tables that are added, by what their step is
	report func([]httpapi.Step)
}

func newSteps(p *plan.Plan, report func([]httpapi.Step)) *steps {
	s := &steps{oids: map[uint32]int{}, report: report}
	for _, t := range p.Tables {
		if t.Action == plan.Add {
			s.oids[t.OID] = len(s.list)
		}
		s.list = append(s.list, httpapi.Step{Action: t.Action, Kind: "table", Subject: t.Name, State: httpapi.StepWaiting})
	}
	for _, ix := range p.Indexes {
		s.list = append(s.list, httpapi.Step{Action: ix.Action, Kind: "index", Subject: fmt.Sprintf("%s %v", ix.Table, ix.Columns), State: httpapi.StepWaiting})
	}
	for _, v := range p.Views {
		for _, sink := range v.Sinks {
			s.list = append(s.list, httpapi.Step{Action: sink.Action, Kind: "projector", Subject: sink.Projector, State: httpapi.StepWaiting})
		}
	}
	s.edit(func(*httpapi.Step) {})
	return s
}

// edit changes steps and tells.
func (s *steps) edit(change func(*httpapi.Step)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		change(&s.list[i])
	}
	s.report(slices.Clone(s.list))
}

func (s *steps) each(kind string, action plan.Action, state httpapi.StepState) {
	s.edit(func(step *httpapi.Step) {
		if step.Kind == kind && step.Action == action && step.State != httpapi.StepDone {
			step.State = state
		}
	})
}

func (s *steps) failed(kind string, action plan.Action, err error) {
	s.each(kind, action, httpapi.StepFailed)
	s.note(kind, action, err.Error())
}

func (s *steps) note(kind string, action plan.Action, text string) {
	s.edit(func(step *httpapi.Step) {
		if step.Kind == kind && step.Action == action {
			step.Error = text
		}
	})
}

func (s *steps) projector(name string, state httpapi.StepState, err error) {
	s.edit(func(step *httpapi.Step) {
		if step.Kind == "projector" && step.Subject == name {
			step.State, step.Error = state, ""
			if err != nil {
				step.Error = err.Error()
			}
		}
	})
}

func (s *steps) count(name string, done, total int64) {
	s.edit(func(step *httpapi.Step) {
		if step.Kind == "projector" && step.Subject == name {
			step.State, step.Done, step.Total = httpapi.StepRunning, done, total
		}
	})
}

func (s *steps) building(name string, b *projectors.BuildProgress) {
	if b != nil {
		s.count(name, b.Done, b.Total)
	}
}

// tables are the OIDs of tables that are added.
func (s *steps) tables() (oids []uint32) {
	for oid := range s.oids {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	return oids
}

// table tells how far the load of a table is: all that are loaded are counted together.
func (s *steps) table(oid uint32, state httpapi.StepState, done, total int64) {
	name := s.list[s.oids[oid]].Subject
	s.edit(func(step *httpapi.Step) {
		if step.Kind == "table" && step.Action == plan.Add && step.Subject == name {
			if step.State = state; total > 0 {
				step.Done, step.Total = done, total
			}
		}
	})
}

// newQuietSteps are for work that nobody is told the steps of.
func newQuietSteps() *steps { return newSteps(&plan.Plan{}, func([]httpapi.Step) {}) }
