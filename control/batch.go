package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Op is one change of a store: the value is put under the key, or, with Delete, the key is removed.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// batcher is a Store that makes several changes at once.
type batcher interface {
	apply(ctx context.Context, ops []Op) error
}

// Apply makes changes. They are durable when it returns without an error. A store on one machine makes all of them or none;
// beyond one machine they are made in their order, and an error, or a crash, may leave those that came first.
func Apply(ctx context.Context, s Store, ops ...Op) error {
	if b, ok := s.(batcher); ok {
		return b.apply(ctx, ops)
	}
	for _, op := range ops {
		var err error
		if op.Delete {
			err = s.Delete(ctx, op.Key)
		} else {
			err = s.Put(ctx, op.Key, op.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AllOrNone says whether Apply makes all of its changes or none.
func AllOrNone(s Store) bool {
	_, ok := s.(batcher)
	return ok
}

// apply implements batcher.
func (s *pebbleStore) apply(ctx context.Context, ops []Op) (err error) {
	for _, op := range ops {
		if err := checkEntry(op.Key, op.Value); err != nil {
			return err
		}
	}
	db, done, err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("change control: %w", err)
	}
	defer done()
	batch := db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	for _, op := range ops {
		if op.Delete {
			err = batch.Delete([]byte(op.Key), nil)
		} else {
			err = batch.Set([]byte(op.Key), op.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("change control %q: %w", op.Key, err)
		}
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("change control: %w", err)
	}
	return nil
}

// lister is a Store that can list keys without their values, and from one on.
type lister interface {
	listAfter(ctx context.Context, prefix, after string, visit func(key string, value []byte) error) error
	listKeys(ctx context.Context, prefix string, visit func(key string) error) error
}

// ListAfter is Store.List without the keys up to and with after, which it does not read.
func ListAfter(ctx context.Context, s Store, prefix, after string, visit func(key string, value []byte) error) error {
	if l, ok := s.(lister); ok {
		return l.listAfter(ctx, prefix, after, visit)
	}
	return s.List(ctx, prefix, func(key string, value []byte) error {
		if key <= after {
			return nil
		}
		return visit(key, value)
	})
}

// ListKeys is Store.List without the values.
func ListKeys(ctx context.Context, s Store, prefix string, visit func(key string) error) error {
	if l, ok := s.(lister); ok {
		return l.listKeys(ctx, prefix, visit)
	}
	return s.List(ctx, prefix, func(key string, _ []byte) error { return visit(key) })
}

// DeleteAll removes every value whose key begins with prefix. Cut off, it may have removed some.
func DeleteAll(ctx context.Context, s Store, prefix string) error {
	var keys []string
	err := ListKeys(ctx, s, prefix, func(key string) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// listAfter implements lister.
func (s *pebbleStore) listAfter(ctx context.Context, prefix, after string, visit func(key string, value []byte) error) error {
	return s.iterate(ctx, prefix, after, func(iter *pebble.Iterator) error {
		value, err := iter.ValueAndErr()
		if err != nil {
			return fmt.Errorf("list control %q: %w", prefix, damaged(err))
		}
		return visit(string(iter.Key()), value)
	})
}

// listKeys implements lister.
func (s *pebbleStore) listKeys(ctx context.Context, prefix string, visit func(key string) error) error {
	return s.iterate(ctx, prefix, "", func(iter *pebble.Iterator) error { return visit(string(iter.Key())) })
}

// iterate visits the keys that begin with prefix and come after one, as they were when it began.
func (s *pebbleStore) iterate(ctx context.Context, prefix, after string, visit func(*pebble.Iterator) error) error {
	db, done, err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("list control %q: %w", prefix, err)
	}
	snapshot := db.NewSnapshot()
	done() // a visit may take long and may call Put; Close waits for neither
	return errors.Join(iterate(ctx, snapshot, prefix, after, visit), snapshot.Close())
}

func iterate(ctx context.Context, snapshot *pebble.Snapshot, prefix, after string, visit func(*pebble.Iterator) error) error {
	lower := prefix
	if after >= prefix {
		lower = after + "\x00"
	}
	upper := prefixEnd(prefix)
	if upper != nil && lower >= string(upper) {
		return nil
	}
	iter, err := snapshot.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte(lower), UpperBound: upper})
	if err != nil {
		return fmt.Errorf("list control %q: %w", prefix, err)
	}
	for valid := iter.First(); valid; valid = iter.Next() {
		err := ctx.Err()
		if err == nil {
			err = visit(iter)
		}
		if err != nil {
			return errors.Join(err, iter.Close())
		}
	}
	if err := iter.Close(); err != nil {
		return fmt.Errorf("list control %q: %w", prefix, damaged(err))
	}
	return nil
}

// listAfter implements lister.
func (s *jetStreamStore) listAfter(ctx context.Context, prefix, after string, visit func(key string, value []byte) error) error {
	keys, err := s.keys(ctx, prefix)
	if err != nil {
		return fmt.Errorf("list control %q: %w", prefix, closedError(err))
	}
	from, found := slices.BinarySearch(keys, after)
	if found {
		from++
	}
	for _, key := range keys[from:] {
		value, ok, err := s.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("list control %q: %w", prefix, err)
		}
		if !ok {
			continue // deleted meanwhile
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// listKeys implements lister.
func (s *jetStreamStore) listKeys(ctx context.Context, prefix string, visit func(key string) error) error {
	keys, err := s.keys(ctx, prefix)
	if err != nil {
		return fmt.Errorf("list control %q: %w", prefix, closedError(err))
	}
	for _, key := range keys {
		if err := visit(key); err != nil {
			return err
		}
	}
	return nil
}
