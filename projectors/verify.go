package projectors

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/lanternist/lanternist/internal/jsondiff"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/views"
)

// ErrDifferent is wrapped by the error of a Rebuild whose new generation did not hold what the view's definition yields. Its
// text names the differences.
var ErrDifferent = errors.New("the new generation is not what the definition yields")

const (
	verifyBatch = 100     // documents read back at once, at most
	verifyBytes = 1 << 20 // and how large they are together, but for the last of them
	// verifyWeight is how many times its size a document takes that is compared: composed, in an answer, taken from it, and decoded.
	verifyWeight = 8
	verifyShown  = 5 // differences that are named
)

// verify compares a sample of the documents, and how many there are, with what the definition yields at one point: it takes
// a snapshot of the mirror and brings the generation exactly there. Nobody else writes to it meanwhile, so traffic is no reason
// for a difference.
func (f *follower) verify(ctx context.Context) error {
	r := f.runner
	generation, ok := f.generation.(Readable)
	if !ok || r.cfg.VerifySample < 0 {
		return nil
	}
	snapshot, err := r.mirror.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	defer func() {
		if err := snapshot.Close(); err != nil {
			r.log.Error("snapshot not closed", "error", err)
		}
	}()
	if err := f.ended(ctx, f.runRoundTo(ctx, snapshot.Progress(), snapshot)); err != nil {
		return err
	}
	began := time.Now()
	v := &verification{f: f, generation: generation, snapshot: snapshot, composer: f.def.View.Composer()}
	if err := v.run(ctx); err != nil {
		return err
	}
	if len(v.differences) > 0 {
		return Fatalf("see whether another program writes to the sink; rebuild the view to try again",
			"%w: %s", ErrDifferent, v.text())
	}
	r.log.Info("generation verified", "generation", f.info.Number, "offset", f.position, "documents", v.compared,
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

// verification is one comparison of a generation with the mirror.
type verification struct {
	f          *follower
	generation Readable
	snapshot   *mirror.Snapshot
	composer   *views.Composer

	rows     int64 // of the root table
	compared int64
	// differences are the first of them; more says how many others there are.
	differences []string
	more        int
}

func (v *verification) run(ctx context.Context) error {
	// Counting makes Elasticsearch refresh: what is read after it costs less.
	count, known, err := v.count(ctx)
	if err != nil {
		return err
	}
	if err := v.sample(ctx); err != nil {
		return err
	}
	if known {
		v.compareCount(count)
	}
	return nil
}

func (v *verification) count(ctx context.Context) (count int64, known bool, err error) {
	err = v.f.runner.ask(ctx, "count documents", func() (err error) {
		count, known, err = v.generation.Count(ctx)
		return err
	})
	return count, known, err
}

// compareCount compares the number of documents with that of the root rows. Of rows that a where excludes, or whose document is
// a dead letter, there may be none.
func (v *verification) compareCount(count int64) {
	parked := int64(v.f.runner.letters.Count(v.f.letters.name))
	fewest := v.rows - parked
	if v.f.def.View.Filtered() {
		fewest = 0
	}
	switch {
	case count > v.rows:
		v.differs("it holds %d documents, there are %d rows", count, v.rows)
	case count < fewest:
		v.differs("it holds %d documents, it should hold %d", count, fewest)
	}
}

// sample compares documents that are spread over the keys: each so-and-so-many-th, from a random one on.
func (v *verification) sample(ctx context.Context) error {
	root := v.f.def.View.Root()
	about, err := v.snapshot.Count(root.OID)
	if err != nil {
		return fmt.Errorf("count %s: %w", root.QualifiedName(), err)
	}
	stride := max(1, about/int64(v.f.runner.cfg.VerifySample))
	next := rand.Int64N(stride)
	var keys [][]byte
	err = v.snapshot.Scan(root.OID, nil, func(key []byte, _ mirror.Record) error {
		if v.rows++; v.rows-1 != next {
			return nil
		}
		next += stride
		if keys = append(keys, append([]byte(nil), key...)); len(keys) < verifyBatch {
			return nil
		}
		err := v.compare(ctx, keys)
		keys = keys[:0]
		return err
	})
	if err == nil {
		err = v.compare(ctx, keys)
	}
	if err != nil {
		return fmt.Errorf("compare documents of %s: %w", root.QualifiedName(), err)
	}
	return nil
}

// compare reads documents back, a few at a time.
func (v *verification) compare(ctx context.Context, keys [][]byte) error {
	if len(keys) == 0 {
		return context.Cause(ctx)
	}
	known := &v.f.runner.documentSizes
	most := min(known.expect(len(keys)), verifyBytes+known.largest.Load())
	held, err := v.f.runner.cfg.Memory.documents.reserve(ctx, verifyWeight*most)
	if err != nil {
		return err
	}
	defer held.release()
	defer v.composer.Reset()
	var ids []string
	var want [][]byte
	bytes := 0
	for _, key := range keys {
		id := v.f.def.View.ID(key)
		_, parked, err := v.f.runner.letters.Parked(ctx, v.f.letters.name, id)
		if err != nil {
			return err
		}
		if parked {
			continue
		}
		document, err := v.composer.Compose(v.snapshot, key)
		if err != nil {
			return fmt.Errorf("compose %s: %w", id, err)
		}
		ids, want = append(ids, id), append(want, document.Body)
		if bytes += len(document.Body); bytes < verifyBytes {
			continue
		}
		if err := v.readBack(ctx, ids, want); err != nil {
			return err
		}
		v.composer.Reset()
		ids, want, bytes = ids[:0], want[:0], 0
	}
	return v.readBack(ctx, ids, want)
}

// readBack compares documents with what the sink holds.
func (v *verification) readBack(ctx context.Context, ids []string, want [][]byte) error {
	if len(ids) == 0 {
		return nil
	}
	var held []Held
	err := v.f.runner.ask(ctx, "read documents back", func() (err error) {
		held, err = v.generation.Documents(ctx, ids)
		return err
	})
	if err != nil {
		return err
	}
	if len(held) != len(ids) {
		return Fatalf("", "read documents back: %d for %d ids", len(held), len(ids))
	}
	for i, id := range ids {
		v.compareOne(id, held[i], want[i])
	}
	return nil
}

func (v *verification) compareOne(id string, held Held, want []byte) {
	v.compared++
	switch {
	case held.Body == nil && want == nil, held.Body == nil && held.Expired:
	case held.Body == nil:
		v.differs("document %s is missing", id)
	case want == nil:
		v.differs("document %s should not be there", id)
	default:
		if jsondiff.Same(held.Body, want) {
			return
		}
		first := jsondiff.Fields(held.Body, want)[0]
		v.differs("document %s has %.100s at %q, it should have %.100s", id, orNothing(first.Got), first.Path, orNothing(first.Want))
	}
}

func orNothing(text []byte) []byte {
	if text == nil {
		return []byte("nothing")
	}
	return text
}

func (v *verification) differs(format string, args ...any) {
	if len(v.differences) == verifyShown {
		v.more++
		return
	}
	v.differences = append(v.differences, fmt.Sprintf(format, args...))
}

func (v *verification) text() string {
	text := strings.Join(v.differences, "; ")
	if v.more > 0 {
		text += fmt.Sprintf("; and %d more", v.more)
	}
	return fmt.Sprintf("%s (%d documents looked at)", text, v.compared)
}
