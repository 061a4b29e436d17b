package checkpoint

import (
	"context"
	"fmt"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/lanternist/lanternist/internal/faultpoint"
)

// Pruned is what Prune removed.
type Pruned struct {
	Checkpoints int   // copies
	Objects     int   // contents of files
	Bytes       int64 // of them
}

// Prune removes all but the newest copies, and what no copy names any more: contents go Config.Grace after the last copy that
// named them. While a manifest cannot be read no contents are removed: it might name them.
func (s *Store) Prune(ctx context.Context, keep int) (Pruned, error) {
	s, err := s.at(ctx)
	if err != nil {
		return Pruned{}, fmt.Errorf("remove old mirror checkpoints: %w", err)
	}
	pruned, err := s.prune(ctx, keep)
	if err != nil {
		return pruned, fmt.Errorf("remove old mirror checkpoints: %w", err)
	}
	return pruned, nil
}

func (s *Store) prune(ctx context.Context, keep int) (pruned Pruned, err error) {
	list, err := s.list(ctx, s.manifests())
	if err != nil {
		return pruned, err
	}
	for _, m := range list.Manifests[:max(0, len(list.Manifests)-keep)] {
		if err := s.remove(ctx, m); err != nil {
			return pruned, err
		}
		pruned.Checkpoints++
	}
	if err := s.forget(ctx); err != nil {
		return pruned, err
	}
	// Objects first, then who names them: a copy that appears between names what is listed, or what is young.
	var candidates []*blob.ListObject
	old := time.Now().Add(-s.cfg.Grace)
	err = s.visit(ctx, s.objects(), func(o *blob.ListObject) error {
		if o.ModTime.Before(old) {
			candidates = append(candidates, o)
		}
		return nil
	})
	if err != nil || len(candidates) == 0 {
		return pruned, err
	}
	named := map[string]bool{}
	for _, folder := range []string{s.manifests(), s.removed()} {
		list, err := s.list(ctx, folder)
		if err != nil {
			return pruned, err
		}
		for _, m := range list.Manifests {
			for _, f := range m.Files {
				named[s.object(f.SHA256)] = true
			}
		}
		if len(list.Damaged) > 0 {
			return pruned, fmt.Errorf("contents are kept: %w", list.Damaged[0])
		}
	}
	for _, o := range candidates {
		if named[o.Key] {
			continue
		}
		if a, err := s.bucket.Attributes(ctx, o.Key); err != nil || !a.ModTime.Before(old) {
			continue // gone, or stored again by a writer whose manifest is still to come
		}
		if err := s.delete(ctx, o.Key); err != nil {
			return pruned, err
		}
		pruned.Objects++
		pruned.Bytes += o.Size
	}
	return pruned, nil
}

// remove makes a copy invisible. It is remembered for a while.
func (s *Store) remove(ctx context.Context, m *Manifest) error {
	if err := s.bucket.Copy(ctx, s.removed()+m.name, s.manifests()+m.name, nil); err != nil {
		return fmt.Errorf("remove %s: %w", m.Name(), err)
	}
	faultpoint.Hit("checkpoint", "removing")
	return s.delete(ctx, s.manifests()+m.name)
}

// forget forgets copies that were removed long ago.
func (s *Store) forget(ctx context.Context) error {
	old := time.Now().Add(-s.cfg.Grace)
	return s.visit(ctx, s.removed(), func(o *blob.ListObject) error {
		if o.ModTime.Before(old) {
			return s.delete(ctx, o.Key)
		}
		return nil
	})
}

func (s *Store) delete(ctx context.Context, key string) error {
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
