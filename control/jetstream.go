package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lanternist/lanternist/internal/natsconn"
)

// purgeEvery is how many deletes leave markers behind before they are cleared away.
const purgeEvery = 1000

// jetStreamStore is the home beyond one machine: a key-value bucket that keeps one revision of each key.
type jetStreamStore struct {
	conn    *nats.Conn
	kv      jetstream.KeyValue
	log     *slog.Logger
	deletes atomic.Int64
}

// OpenJetStream opens the key-value bucket of a name on the NATS server at url, creating it on replicas servers
// (at least one) when it is not there. Any number of processes may have it open; the last Put of a key counts.
// A value is as durable when Put returns as the server's sync_interval and the replicas make it.
func OpenJetStream(ctx context.Context, url, bucket string, replicas int, log *slog.Logger) (Store, error) {
	conn, err := natsconn.Connect(url, "lanternist control "+bucket, log)
	if err != nil {
		return nil, fmt.Errorf("open control bucket %s: %w", bucket, err)
	}
	kv, err := bind(ctx, conn, bucket, replicas)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open control bucket %s: %w", bucket, err)
	}
	if most := conn.MaxPayload(); most < MaxValue {
		log.Debug("nats server bounds control values", "max_payload", most)
	}
	return &jetStreamStore{conn: conn, kv: kv, log: log}, nil
}

// bind finds or makes the bucket, checks that it forgets nothing, and clears old markers away.
func bind(ctx context.Context, conn *nats.Conn, bucket string, replicas int) (jetstream.KeyValue, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: bucket, Description: "Lanternist control state", History: 1, Storage: jetstream.FileStorage,
			Replicas: max(replicas, 1),
		})
	}
	if err != nil {
		return nil, err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, err
	}
	if ttl := status.TTL(); ttl != 0 {
		return nil, fmt.Errorf("the bucket forgets values after %s: set its TTL to 0", ttl)
	}
	return kv, kv.PurgeDeletes(ctx)
}

// Get implements Store.
func (s *jetStreamStore) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	entry, err := s.kv.Get(ctx, subject(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("get control %q: %w", key, closedError(err))
	}
	return append([]byte{}, entry.Value()...), true, nil
}

// Put implements Store.
func (s *jetStreamStore) Put(ctx context.Context, key string, value []byte) error {
	if err := checkEntry(key, value); err != nil {
		return err
	}
	_, err := s.kv.Put(ctx, subject(key), value)
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: value of %q is %d bytes, the server's max_payload is %d", ErrTooLarge, key, len(value), s.conn.MaxPayload())
	}
	if err != nil {
		return fmt.Errorf("put control %q: %w", key, closedError(err))
	}
	return nil
}

// Delete implements Store.
func (s *jetStreamStore) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := s.kv.Purge(ctx, subject(key)); err != nil {
		return fmt.Errorf("delete control %q: %w", key, closedError(err))
	}
	if s.deletes.Add(1)%purgeEvery == 0 {
		// Markers only take space; those that stay now go with the next thousand.
		if err := s.kv.PurgeDeletes(ctx); err != nil {
			s.log.Warn("control markers not cleared", "error", err)
		}
	}
	return nil
}

// List implements Store. It holds the keys in memory, not the values.
func (s *jetStreamStore) List(ctx context.Context, prefix string, visit func(key string, value []byte) error) error {
	return s.listAfter(ctx, prefix, "", visit)
}

// keys are the keys that begin with prefix, in order. The server selects by whole path elements.
func (s *jetStreamStore) keys(ctx context.Context, prefix string) ([]string, error) {
	filter := ">"
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		filter = subject(prefix[:i]) + ".>"
	}
	watcher, err := s.kv.WatchFiltered(ctx, []string{filter}, jetstream.IgnoreDeletes(), jetstream.MetaOnly())
	if err != nil {
		return nil, err
	}
	keys, err := initial(ctx, watcher, prefix)
	if err := errors.Join(err, watcher.Stop()); err != nil {
		return nil, err
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil // a key that is written during the listing may come twice
}

// initial collects the keys that a watcher finds at its start. That it found all is said by a nil entry.
func initial(ctx context.Context, watcher jetstream.KeyWatcher, prefix string) ([]string, error) {
	var keys []string
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return nil, errors.New("the listing ended too early")
			}
			if entry == nil {
				return keys, nil
			}
			key, err := keyOf(entry.Key())
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close implements Store.
func (s *jetStreamStore) Close() error {
	s.conn.Close()
	return nil
}

// closedError gives the client's error for a closed connection our name.
func closedError(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		return ErrClosed
	}
	return err
}
