package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// View is what a Store needs to know of a view: its name, the hash of its definition, and its cache section.
type View interface {
	Name() string
	Hash() string
	Cache() *views.CacheOptions
}

// Store is the home of one view's documents in Redis. It implements projectors.Store and is safe for concurrent use.
// There must be one Store per view in a process, and those that it has Redefined: they remember how much Redis should hold.
type Store struct {
	client  *Client
	view    string
	hash    string
	ttl     time.Duration
	lookups []string
	key     string // begins all keys of the view
	*home
}

var _ projectors.Store = (*Store)(nil)

// Store returns the home of the view. It does no I/O. The view must have a cache section.
func (c *Client) Store(view View) *Store {
	options := view.Cache()
	s := &Store{
		client: c,
		view:   view.Name(),
		hash:   view.Hash(),
		ttl:    options.TTL,
		key:    c.viewKey(view.Name()),
		home:   newHome(),
	}
	for _, l := range options.Lookups {
		s.lookups = append(s.lookups, l.Name())
	}
	return s
}

// Pushbacks counts how often Redis did not answer a write in time, or was busy.
func (s *Store) Pushbacks() uint64 { return s.client.pushbacks.Load() }

func (s *Store) liveKey() string        { return s.key + "live" }
func (s *Store) generationsKey() string { return s.key + "generations" }

// record is what Redis keeps of a generation besides its documents.
type record struct {
	Format   int    `json:"format"`
	Identity string `json:"identity"` // random, so that no other generation of the number is taken for this one
	Hash     string `json:"hash"`
	// Definition is the text that Hash is of. Records that an older version wrote have none.
	Definition string    `json:"definition,omitempty"`
	Epoch      string    `json:"epoch"`
	Deployment string    `json:"deployment,omitempty"`
	Lookups    []string  `json:"lookups"`
	Created    time.Time `json:"created"`
}

// recordFormat is the layout of keys and values that this package writes.
const recordFormat = 1

func decodeRecord(number int, text string) (record, error) {
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, projectors.Fatalf("another program uses keys with this prefix: choose another redis.prefix",
			"generation %d: record %q: %w", number, text, err)
	}
	if r.Format != recordFormat {
		return r, projectors.Fatalf("run the version that wrote it, or delete the keys of the view so that it is built anew",
			"generation %d: format %d, this version reads %d", number, r.Format, recordFormat)
	}
	return r, nil
}

// pointer is the live generation, with what a read needs to know of it.
type pointer struct {
	text   string // "<number>:<identity>", as Redis has it
	number int
	keys   keys
	record record
}

func splitPointer(text string) (number int, identity string, err error) {
	n, identity, ok := strings.Cut(text, ":")
	number, err = strconv.Atoi(n)
	if err != nil || !ok {
		return 0, "", fmt.Errorf("pointer to the live generation is %q", text)
	}
	return number, identity, nil
}

// Generations lists what the store holds. One whose removal was interrupted has no Hash.
func (s *Store) Generations(ctx context.Context) ([]projectors.Info, error) {
	var records *redis.MapStringStringCmd
	var live *redis.StringCmd
	_, err := s.client.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		records, live = p.HGetAll(ctx, s.generationsKey()), p.Get(ctx, s.liveKey())
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, s.classify("list generations", err)
	}
	infos := make([]projectors.Info, 0, len(records.Val()))
	for field, text := range records.Val() {
		number, err := strconv.Atoi(field)
		if err != nil {
			return nil, s.classify("list generations", fmt.Errorf("number %q", field))
		}
		r, err := decodeRecord(number, text)
		if err != nil {
			return nil, s.classify("list generations", err)
		}
		infos = append(infos, projectors.Info{
			Number: number, Hash: r.Hash, Definition: r.Definition, Epoch: r.Epoch, Deployment: r.Deployment, Created: r.Created,
			Live: live.Val() == pointerText(number, r.Identity),
		})
	}
	slices.SortFunc(infos, func(a, b projectors.Info) int { return a.Number - b.Number })
	return infos, nil
}

func pointerText(number int, identity string) string { return strconv.Itoa(number) + ":" + identity }

// Create makes an empty generation. What is there of that number is removed first.
func (s *Store) Create(ctx context.Context, info projectors.Info) (projectors.Generation, error) {
	if err := s.client.checkEviction(ctx); err != nil {
		return nil, s.classify("create generation", err)
	}
	if err := s.Retire(ctx, info.Number); err != nil {
		return nil, err
	}
	r := record{
		Format: recordFormat, Identity: newIdentity(), Hash: info.Hash, Definition: info.Definition, Epoch: info.Epoch, Deployment: info.Deployment,
		Lookups: s.lookups, Created: info.Created,
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, s.classify("create generation", err)
	}
	k := generationKeys(s.key, info.Number)
	_, err = s.client.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, s.generationsKey(), strconv.Itoa(info.Number), text)
		p.Set(ctx, k.identity, r.Identity, 0)
		p.Set(ctx, k.writes, 0, 0)
		return nil
	})
	if err != nil {
		return nil, s.classify("create generation", err)
	}
	return s.remember(info.Number, r, 0), nil
}

func newIdentity() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Open returns an existing generation.
func (s *Store) Open(ctx context.Context, number int) (projectors.Generation, error) {
	r, ok, err := s.record(ctx, number)
	if err != nil {
		return nil, s.classify("open generation", err)
	}
	if !ok {
		return nil, s.classify("open generation", fmt.Errorf("%d: %w", number, projectors.ErrNoGeneration))
	}
	k := generationKeys(s.key, number)
	values, err := s.client.redis.MGet(ctx, k.identity, k.writes).Result()
	if err != nil {
		return nil, s.classify("open generation", err)
	}
	writes, ok := parseWrites(values[1])
	if values[0] != r.Identity || !ok {
		return nil, s.classify("open generation", fmt.Errorf("%d was being removed: %w", number, projectors.ErrNoGeneration))
	}
	return s.remember(number, r, writes), nil
}

// remember makes the object of a generation that Redis has counted so many writes of. When this process has seen more of
// them, Redis has gone back in time: reads then wait until the checkpoint has reached again what was written.
func (s *Store) remember(number int, r record, writes int64) *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &generation{store: s, number: number, record: r, keys: generationKeys(s.key, number)}
	g.seen.Store(writes)
	if old := s.opened[number]; old != nil && old.record.Identity == r.Identity {
		g.highest.Store(old.highest.Load())
		g.awaited.Store(old.awaited.Load())
		if old.lost.Load() || old.seen.Load() > writes {
			g.awaited.Store(max(old.highest.Load(), old.awaited.Load()))
		}
		old.lost.Store(true)
	}
	s.opened[number] = g
	return g
}

// generation is the object of the generation, if this process has opened it.
func (s *Store) generation(number int, identity string) *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.opened[number]; g != nil && g.record.Identity == identity {
		return g
	}
	return nil
}

// record reads the record of a generation; false when there is none, or none worth the name.
func (s *Store) record(ctx context.Context, number int) (record, bool, error) {
	text, err := s.client.redis.HGet(ctx, s.generationsKey(), strconv.Itoa(number)).Result()
	if errors.Is(err, redis.Nil) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, err
	}
	r, err := decodeRecord(number, text)
	return r, err == nil, err
}

// Promote sends readers to the generation.
func (s *Store) Promote(ctx context.Context, number int) error {
	r, ok, err := s.record(ctx, number)
	if err != nil {
		return s.classify("promote generation", err)
	}
	if !ok {
		return s.classify("promote generation", fmt.Errorf("%d: %w", number, projectors.ErrNoGeneration))
	}
	seen := int64(0)
	if g := s.generation(number, r.Identity); g != nil {
		seen = g.seen.Load()
	}
	k := generationKeys(s.key, number)
	n, err := s.client.run(ctx, promoteScript, []string{s.liveKey(), k.identity, k.writes}, number, r.Identity, seen).Int64()
	if err != nil {
		return s.classify("promote generation", err)
	}
	if n == scriptLost {
		return s.classify("promote generation", fmt.Errorf("%d: %w", number, projectors.ErrLost))
	}
	return nil
}

// classify gives an error the view, the operation and its class.
func (s *Store) classify(operation string, err error) error {
	return classify("cache "+s.view+": "+operation, err)
}

// parseWrites reads the counter of writes as MGET or a script gave it.
func parseWrites(v any) (int64, bool) {
	text, ok := v.(string)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}
