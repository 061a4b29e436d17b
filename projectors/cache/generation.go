package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
)

// generation is one complete copy of a view's documents. It implements projectors.Generation.
type generation struct {
	store  *Store
	number int
	record record
	keys   keys

	// seen is the highest count of writes that Redis has answered. Redis applies commands in order and loses them from
	// the end, so a count below it means that something acknowledged is gone, and a count not below that nothing is.
	seen atomic.Int64
	// lost is set when that was noticed, or when the generation was opened again. It stays set.
	lost atomic.Bool
	// highest is the newest version handed to Write.
	highest atomic.Uint64
	// awaited is the checkpoint to wait for before reads are answered again; 0 when there is nothing to wait for.
	awaited atomic.Uint64
}

var _ projectors.Generation = (*generation)(nil)

// lose notes that Redis has lost data and returns the error that says so.
func (g *generation) lose() error {
	if !g.lost.Swap(true) {
		g.store.client.log.Warn("redis lost data", "view", g.store.view, "generation", g.number)
	}
	return fmt.Errorf("generation %d: %w", g.number, projectors.ErrLost)
}

// saw notes a count of writes.
func (g *generation) saw(writes int64) { raise(&g.seen, writes) }

// Checkpoint is the checkpoint saved last.
func (g *generation) Checkpoint(ctx context.Context) (projectors.Checkpoint, bool, error) {
	var cp projectors.Checkpoint
	values, err := g.intact(ctx, g.keys.checkpoint)
	if err != nil {
		return cp, false, g.store.classify("read checkpoint", err)
	}
	text, ok := values[0].(string)
	if !ok {
		return cp, false, nil
	}
	if err := json.Unmarshal([]byte(text), &cp); err != nil {
		return cp, false, projectors.Fatalf("rebuild the view", "checkpoint of generation %d of %s cannot be read: %.200s", g.number, g.store.view, text)
	}
	return cp, true, nil
}

// intact reads keys of the generation in one step with a check that nothing of it was lost.
func (g *generation) intact(ctx context.Context, keys ...string) ([]any, error) {
	if g.lost.Load() {
		return nil, g.lose()
	}
	seen := g.seen.Load()
	values, err := g.store.client.redis.MGet(ctx, append([]string{g.keys.identity, g.keys.writes}, keys...)...).Result()
	if err != nil {
		return nil, err
	}
	if writes, ok := parseWrites(values[1]); !ok || values[0] != g.record.Identity || writes < seen {
		return nil, g.lose()
	}
	return values[2:], nil
}

// SaveCheckpoint saves the checkpoint beside the documents.
func (g *generation) SaveCheckpoint(ctx context.Context, cp projectors.Checkpoint) error {
	if g.lost.Load() {
		return g.store.classify("save checkpoint", g.lose())
	}
	text, err := json.Marshal(cp)
	if err != nil {
		return g.store.classify("save checkpoint", err)
	}
	n, err := g.store.client.run(ctx, checkpointScript, []string{g.keys.identity, g.keys.writes, g.keys.checkpoint},
		g.record.Identity, g.seen.Load(), text).Int64()
	if err != nil {
		return g.store.classify("save checkpoint", err)
	}
	if n == scriptLost {
		return g.store.classify("save checkpoint", g.lose())
	}
	// Every event whose documents were lost has been applied again.
	if event.Offset(g.awaited.Load()) <= cp.Offset {
		g.awaited.Store(0)
	}
	return nil
}

// IDs visits the ids of all documents. It scans all keys of the Redis node.
func (g *generation) IDs(ctx context.Context, visit func(id string) error) error {
	err := g.store.scan(ctx, g.keys.documents, func(node redis.Cmdable, keys []string) error {
		flags := make([]*redis.StringCmd, len(keys))
		_, err := node.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range keys {
				flags[i] = p.GetRange(ctx, key, flagAt, flagAt)
			}
			return nil
		})
		if err != nil {
			return g.store.classify("list documents", err)
		}
		for i, key := range keys {
			if flags[i].Val() != string(flagDocument) {
				continue
			}
			if err := visit(key[len(g.keys.documents):]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// What was lost during the scan was not visited.
	_, err = g.intact(ctx)
	return g.store.classify("list documents", err)
}

// raise sets a to n if that is more.
func raise(a *atomic.Int64, n int64) {
	for {
		old := a.Load()
		if old >= n || a.CompareAndSwap(old, n) {
			return
		}
	}
}
