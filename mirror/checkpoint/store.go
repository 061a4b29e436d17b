package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Config is how a Store works. Zero fields have their defaults.
type Config struct {
	// Grace is how long an object that nobody names is kept, and twice as long as writing a copy may take. Default 24h.
	Grace time.Duration
	// Transfers is how many files are read or written at once. Default 4.
	Transfers int
}

func (c Config) withDefaults() Config {
	c.Grace = cmp.Or(c.Grace, 24*time.Hour)
	c.Transfers = cmp.Or(c.Transfers, 4)
	return c
}

// Store holds the copies of one mirror. Its methods may be called from any goroutine; only one Put or Prune of a
// process should run at a time, and only the process that has the journal open should call them.
type Store struct {
	cfg    Config
	open   func(context.Context) (*blob.Bucket, error)
	bucket *blob.Bucket // nil but in the copy that at returns
	prefix string
	id     string // of the journal
	log    *slog.Logger
}

// New makes a store of the copies that belong to a journal. It does no I/O: open is asked for the blob store by each operation.
func New(open func(context.Context) (*blob.Bucket, error), journalID string, cfg Config, log *slog.Logger) *Store {
	return &Store{cfg: cfg.withDefaults(), open: open, prefix: "mirror/" + journalID + "/", id: journalID, log: log}
}

// at is the store with its blob store at hand.
func (s *Store) at(ctx context.Context) (*Store, error) {
	b, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	opened := *s
	opened.bucket = b
	return &opened, nil
}

func (s *Store) manifests() string { return s.prefix + "checkpoints/" }
func (s *Store) removed() string   { return s.prefix + "removed/" }
func (s *Store) objects() string   { return s.prefix + "objects/" }

func (s *Store) object(sha256 string) string { return s.objects() + sha256[:2] + "/" + sha256 }

// DamagedError says that what is stored is not what was written.
type DamagedError struct {
	Checkpoint string // the copy's name
	File       string // of the copy; "" when it is the manifest
	Object     string // key in the blob store
	Cause      error
}

func (e *DamagedError) Error() string {
	what := "its manifest"
	if e.File != "" {
		what = "file " + e.File
	}
	return fmt.Sprintf("mirror checkpoint %s is damaged: %s (%s): %v", e.Checkpoint, what, e.Object, e.Cause)
}

func (e *DamagedError) Unwrap() error { return e.Cause }

// Listing is what a store holds.
type Listing struct {
	Manifests []*Manifest     // by offset, then by the time they were made
	Damaged   []*DamagedError // of manifests that cannot be read
}

// List reads all manifests.
func (s *Store) List(ctx context.Context) (Listing, error) {
	s, err := s.at(ctx)
	if err != nil {
		return Listing{}, fmt.Errorf("list mirror checkpoints: %w", err)
	}
	list, err := s.list(ctx, s.manifests())
	if err != nil {
		return Listing{}, fmt.Errorf("list mirror checkpoints: %w", err)
	}
	return list, nil
}

func (s *Store) list(ctx context.Context, folder string) (list Listing, err error) {
	err = s.visit(ctx, folder, func(o *blob.ListObject) error {
		name := o.Key[len(folder):]
		if !strings.HasSuffix(name, manifestSuffix) {
			return nil
		}
		text, err := s.bucket.ReadAll(ctx, o.Key)
		if gcerrors.Code(err) == gcerrors.NotFound {
			return nil // removed meanwhile
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", o.Key, err)
		}
		m, err := decode(name, text)
		if err == nil && m.JournalID != s.id {
			err = fmt.Errorf("it is of journal %s", m.JournalID)
		}
		if err != nil {
			list.Damaged = append(list.Damaged, &DamagedError{Checkpoint: strings.TrimSuffix(name, manifestSuffix), Object: o.Key, Cause: err})
			return nil //nolint:nilerr // the others can be read
		}
		list.Manifests = append(list.Manifests, m)
		return nil
	})
	slices.SortStableFunc(list.Manifests, func(a, b *Manifest) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), a.Made.Compare(b.Made))
	})
	return list, err
}

// visit goes through all objects of a folder.
func (s *Store) visit(ctx context.Context, folder string, each func(*blob.ListObject) error) error {
	it := s.bucket.List(&blob.ListOptions{Prefix: folder})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", folder, err)
		}
		if err := each(o); err != nil {
			return err
		}
	}
}
