package projectors

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/mirror"
)

// reconcile has every document composed: those of all root rows, and those whose root row is gone. Nothing that the rest of
// the range could say is new after that.
func (p *replay) reconcile(ctx context.Context) error {
	if err := p.scan(ctx); err != nil {
		return err
	}
	if !p.dry {
		if err := p.orphans(ctx); err != nil {
			return err
		}
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	p.result.Reconciled, p.result.Batches = true, p.result.BatchesTotal
	p.report()
	return nil
}

func (p *replay) scan(ctx context.Context) error {
	root := p.def.View.Root()
	if p.dry { // each once, and not those again that were counted before
		rows, err := p.snapshot.Count(root.OID)
		p.result.Documents = rows
		return err
	}
	err := p.snapshot.Scan(root.OID, nil, func(key []byte, _ mirror.Record) error { return p.add(ctx, key) })
	if err != nil {
		return fmt.Errorf("scan %s: %w", root.QualifiedName(), err)
	}
	return nil
}

// orphans has every document deleted whose root row is gone. The live generation may be another one meanwhile, which was
// filled from the mirror: then there is nothing to delete.
func (p *replay) orphans(ctx context.Context) error {
	var own error // not the sink's: not to be repeated
	err := p.runner.repeat(ctx, "visit document ids", func() error {
		var generation Generation
		if generation, own = p.generation(ctx); own != nil {
			return nil //nolint:nilerr // returned below
		}
		err := generation.IDs(ctx, func(id string) error {
			own = p.orphan(ctx, id)
			return own
		})
		if own != nil {
			return nil //nolint:nilerr // returned below
		}
		return err
	})
	if own != nil {
		return own
	}
	return err
}

func (p *replay) orphan(ctx context.Context, id string) error {
	view := p.def.View
	key, err := view.Key(id)
	if err != nil {
		if p.keys.addForeign(id) {
			return p.flush(ctx)
		}
		return nil
	}
	_, found, err := p.snapshot.Get(view.Root().OID, key)
	if err != nil {
		return fmt.Errorf("look up root row of %s: %w", id, err)
	}
	if found {
		return nil
	}
	return p.add(ctx, key) // composed to nothing: deleted
}
