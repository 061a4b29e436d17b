package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/journal"
)

// Bucket opens the blob store, or returns the one that it has opened. An error may pass.
type Bucket func(ctx context.Context) (*blob.Bucket, error)

// defaultCacheBytes bounds the blocks in memory. There are as many as a few readers go through at once.
const defaultCacheBytes = 48 << 20

// maxIndexes bounds the indexes in memory, at about 10 KiB each.
const maxIndexes = 512

// Archive reads the files of one journal. It implements journal.Archive, and is safe for concurrent use.
type Archive struct {
	id     journal.ID
	bucket Bucket
	log    *slog.Logger

	files atomic.Pointer[listing] // nil until Load has found them

	mu      sync.Mutex
	why     error // why they are not known
	indexes *lru[string, *index]
	blocks  *lru[blockKey, cached]
	loading map[blockKey]chan struct{} // closed when the block has been loaded, or could not be
}

// blockKey names a block.
type blockKey struct {
	file   string
	number int
}

// cached is a block in memory: packed, as it was read ahead, or unpacked.
type cached struct {
	packed []byte
	block  *block
}

// errNotLoaded is why nothing is known at first.
var errNotLoaded = errors.New("its files have not been listed yet")

// New is the archive of a journal. Nothing is known of it before Load has listed its files.
func New(bucket Bucket, id journal.ID, log *slog.Logger) *Archive {
	return &Archive{
		id: id, bucket: bucket, log: log, why: errNotLoaded, loading: map[blockKey]chan struct{}{},
		indexes: newLRU[string, *index](maxIndexes), blocks: newLRU[blockKey, cached](defaultCacheBytes),
	}
}

// Load lists the files. It can be called again, to find those that another process has written. ErrOverlap lasts; other
// errors may pass.
func (a *Archive) Load(ctx context.Context) error {
	_, err := a.load(ctx)
	return err
}

// load is Load. It returns what uploads that were cut off have left.
func (a *Archive) load(ctx context.Context) (leftovers []string, err error) {
	l, leftovers, err := a.look(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.why = err
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a.files.Store(l)
	return leftovers, nil
}

func (a *Archive) look(ctx context.Context) (*listing, []string, error) {
	bucket, err := a.bucket(ctx)
	if err != nil {
		return nil, nil, err
	}
	files, leftovers, err := listFiles(ctx, bucket, a.id)
	if err != nil {
		return nil, nil, err
	}
	l, err := arrange(files, func(f *file) (*index, error) { return a.index(ctx, f) })
	return l, leftovers, err
}

// listed is what Load has found.
func (a *Archive) listed() (*listing, error) {
	if l := a.files.Load(); l != nil {
		return l, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return nil, a.why
}

// Range implements journal.Archive.
func (a *Archive) Range() (journal.ArchiveRange, error) {
	l, err := a.listed()
	if err != nil {
		return journal.ArchiveRange{}, err
	}
	return l.span(), nil
}

// Read implements journal.Archive. Reading in order is fast: some blocks are read ahead.
func (a *Archive) Read(ctx context.Context, sequence uint64) ([]byte, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	span := l.span()
	if sequence < span.First || sequence > span.Last || span.First == 0 {
		return nil, fmt.Errorf("%w: the archive has batches %d-%d", journal.ErrNotFound, span.First, span.Last)
	}
	n := l.find(sequence)
	f := l.files[n]
	x, err := a.index(ctx, f)
	if err != nil {
		return nil, err
	}
	b, err := a.block(ctx, l, n, x, x.block(sequence))
	if err != nil {
		return nil, err
	}
	return b.entry(sequence), nil
}

// index is the index of a file.
func (a *Archive) index(ctx context.Context, f *file) (*index, error) {
	a.mu.Lock()
	x, ok := a.indexes.get(f.name)
	a.mu.Unlock()
	if ok {
		return x, nil
	}
	bucket, err := a.bucket(ctx)
	if err != nil {
		return nil, err
	}
	if x, err = f.readIndex(ctx, bucket); err != nil {
		return nil, f.damaged(f.first, f.last, err)
	}
	x.Schemas = nil // they are read again when they are needed
	a.mu.Lock()
	a.indexes.put(f.name, x, 1)
	a.mu.Unlock()
	return x, nil
}

// block is a block of the n-th file.
func (a *Archive) block(ctx context.Context, l *listing, n int, x *index, number int) (*block, error) {
	key := blockKey{l.files[n].name, number}
	for {
		a.mu.Lock()
		c, ok := a.blocks.get(key)
		if ok && c.block != nil {
			a.mu.Unlock()
			return c.block, nil
		}
		loading, busy := a.loading[key]
		if !busy {
			done := make(chan struct{})
			a.loading[key] = done
			a.mu.Unlock()
			b, err := a.loadBlock(ctx, l, n, x, number, c.packed)
			a.mu.Lock()
			if err == nil {
				a.blocks.put(key, cached{block: b}, b.memory())
			}
			delete(a.loading, key)
			a.mu.Unlock()
			close(done)
			return b, err
		}
		a.mu.Unlock()
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// loadBlock reads a block, unless its packed bytes are here, and unpacks it.
func (a *Archive) loadBlock(ctx context.Context, l *listing, n int, x *index, number int, packed []byte) (*block, error) {
	f, p := l.files[n], &x.places[number]
	if packed == nil {
		var err error
		if packed, err = a.fetch(ctx, l, n, x, number); err != nil {
			return nil, f.damaged(p.first, p.last(), err)
		}
	}
	b, err := readBlock(p, packed, f.id, a.before(l, n, x, number))
	if err != nil {
		return nil, f.damaged(p.first, p.last(), err)
	}
	return b, nil
}

// before is the entry before a block, when it is known without reading.
func (a *Archive) before(l *listing, n int, x *index, number int) *journal.Entry {
	if number > 0 {
		return &x.places[number-1].ending
	}
	if n == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if previous, ok := a.indexes.get(l.files[n-1].name); ok {
		return previous.last()
	}
	return nil
}

// aheadBytes bounds what is read at once, and aheadBlocks how many blocks.
const (
	aheadBytes  = 4 << 20
	aheadBlocks = 16
)

// fetch reads a block's packed bytes, and those after it when the blocks before it have been read lately: the more of them,
// the more.
func (a *Archive) fetch(ctx context.Context, l *listing, n int, x *index, number int) ([]byte, error) {
	bucket, err := a.bucket(ctx)
	if err != nil {
		return nil, err
	}
	p := &x.places[number]
	end, until := number+1, number+1+a.streak(l, n, x, number)
	for end < min(until, len(x.places)) && x.places[end].at+x.places[end].size()-p.at <= aheadBytes {
		end++
	}
	last := &x.places[end-1]
	b, err := l.files[n].read(ctx, bucket, p.at, last.at+last.size()-p.at)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := number + 1; i < end; i++ {
		from := x.places[i].at - p.at
		key := blockKey{l.files[n].name, i}
		if _, ok := a.blocks.get(key); !ok {
			packed := append([]byte(nil), b[from:from+x.places[i].size()]...) // one of them must not keep all of them
			a.blocks.put(key, cached{packed: packed}, int64(cap(packed)))
		}
	}
	return b[:p.size():p.size()], nil
}

// streak is how many blocks before a block are in memory, at most aheadBlocks.
func (a *Archive) streak(l *listing, n int, x *index, number int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if number == 0 {
		if n == 0 {
			return 0
		}
		previous, ok := a.indexes.get(l.files[n-1].name)
		if !ok {
			return 0
		}
		if _, ok := a.blocks.get(blockKey{l.files[n-1].name, len(previous.places) - 1}); ok {
			return aheadBlocks
		}
		return 0
	}
	count := 0
	for i := number - 1; i >= 0 && count < aheadBlocks; i-- {
		if _, ok := a.blocks.get(blockKey{l.files[n].name, i}); !ok {
			break
		}
		count++
	}
	return count
}
