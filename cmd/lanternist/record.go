package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/plan"
	"github.com/lanternist/lanternist/row"
)

// keyDeployed is where the record of what is deployed is kept: what is captured, and which projectors may have documents in a sink.
// Something is in the record before it is begun, and until all that there is of it has gone: so a process that ends in between
// leaves nothing that the next one does not know of.
const keyDeployed = "deployment/record"

// readRecord reads the record; an empty one when there is none.
func readRecord(ctx context.Context, store control.Store) (*plan.Deployment, error) {
	d := &plan.Deployment{}
	text, ok, err := store.Get(ctx, keyDeployed)
	if err != nil {
		return nil, fmt.Errorf("read what is deployed: %w", err)
	}
	if !ok {
		return d, nil
	}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("read what is deployed: %w", err)
	}
	return d, nil
}

// leftovers is what was deployed and is not configured any more. The projectors are guarded by mu.
type leftovers struct {
	tables []*row.Schema // captured until no document is made of them

	mu         sync.Mutex
	projectors []plan.Projector          // whose documents are still in a sink
	recorded   map[string]plan.Projector // those of the record that are configured, too, by name
	written    []byte                    // the record as it is
}

func (l *leftovers) list() []plan.Projector {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.projectors)
}

// put notes a projector that is gone.
func (l *leftovers) put(p plan.Projector) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.projectors = append(slices.DeleteFunc(l.projectors, func(o plan.Projector) bool { return o.Name == p.Name }), p)
}

// remove forgets a projector: nothing is left of it, or it is configured again.
func (l *leftovers) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.projectors = slices.DeleteFunc(l.projectors, func(p plan.Projector) bool { return p.Name == name })
}

// readLeftovers compares the record with the configuration, as far as that is possible before views are compiled: all projectors are
// left over until they are made.
func (d *deployment) readLeftovers(ctx context.Context) error {
	was, err := readRecord(ctx, d.control)
	if err != nil {
		return err
	}
	d.earlier.projectors, d.earlier.recorded = was.Projectors, map[string]plan.Projector{}
	for _, p := range was.Projectors {
		d.earlier.recorded[p.Name] = p
	}
	captures, err := cdc.Captures(d.cfg.Source.Tables)
	if err != nil {
		return badInput(err)
	}
	var gone []*row.Schema
	for _, t := range was.Tables {
		if s, known := d.registry.Latest(t.OID); known && !captures(s) {
			gone = append(gone, s)
		}
	}
	d.earlier.tables, err = d.stillThere(ctx, gone)
	return err
}

// stillThere are the tables that the source still has.
func (d *deployment) stillThere(ctx context.Context, tables []*row.Schema) (there []*row.Schema, err error) {
	if len(tables) == 0 {
		return nil, nil
	}
	conn, err := cdc.Connect(ctx, sourceConfig(d.cfg))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range tables {
		now, err := cdc.LoadCatalog(ctx, conn, cdc.TableNames([]*row.Schema{s}))
		if err == nil && len(now) == 1 && now[0].OID == s.OID {
			there = append(there, s)
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return there, nil
}

// deployed is what is captured and shown now.
func (d *deployment) deployed() *plan.Deployment {
	now := &plan.Deployment{Tables: []plan.Table{}, Projectors: []plan.Projector{}}
	for _, s := range d.catalog.all() {
		now.Tables = append(now.Tables, plan.Table{OID: s.OID, Name: s.QualifiedName(), Rows: -1})
	}
	for _, r := range d.runners.list() {
		p, status := plan.Describe(r.view(), r.sink), r.Status()
		if was, ok := d.earlier.recorded[p.Name]; ok && status.Generation == 0 {
			p = was // the sink has not told yet what it has
		}
		p.Generations = nil
		for _, g := range status.Generations {
			p.Generations = append(p.Generations, g.Number)
		}
		now.Projectors = append(now.Projectors, p)
	}
	for _, p := range d.earlier.list() {
		if d.runners.find(p.Name) == nil {
			now.Projectors = append(now.Projectors, p)
		}
	}
	return now
}

// record writes down what is deployed, when that is not what was written last.
func (d *deployment) record(ctx context.Context) error {
	text, err := json.Marshal(d.deployed())
	if err != nil {
		return fmt.Errorf("write what is deployed: %w", err)
	}
	d.earlier.mu.Lock()
	defer d.earlier.mu.Unlock()
	if bytes.Equal(text, d.earlier.written) {
		return nil
	}
	if err := d.control.Put(ctx, keyDeployed, text); err != nil {
		return fmt.Errorf("write what is deployed: %w", err)
	}
	d.earlier.written = text
	return nil
}

// settings are those that the daemon does not take over while it runs.
func settings(cfg *config.Config) ([]plan.Setting, error) {
	list, err := cfg.Settings()
	if err != nil {
		return nil, err
	}
	all := make([]plan.Setting, len(list))
	for i, s := range list {
		all[i] = plan.Setting(s)
	}
	return all, nil
}
