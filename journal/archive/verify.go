package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/journal"
)

// Damage is a range of batches that cannot be read, or that is not what was appended.
type Damage struct {
	File     string // "" when it is in the journal itself
	From, To uint64 // sequences, inclusive
	Err      error
}

// Error implements error.
func (d Damage) Error() string {
	where := "the journal"
	if d.File != "" {
		where = d.File
	}
	if d.From == d.To {
		return fmt.Sprintf("batch %d in %s: %v", d.From, where, d.Err)
	}
	return fmt.Sprintf("batches %d-%d in %s: %v", d.From, d.To, where, d.Err)
}

// Unwrap implements errors.Unwrap.
func (d Damage) Unwrap() error { return d.Err }

// Verified is what a verification has looked at.
type Verified struct {
	Files   int    // of the archive
	Batches uint64 // that are as they were appended
	Events  uint64 // in them
	Bytes   uint64 // of them
	First   uint64 // sequence of the first batch that there should be; 0 when there is none
	Last    uint64
	Damage  []Damage
}

// Verify reads every byte of the archive and of the journal's engine, which may be nil, and checks every checksum and the
// chain. What is damaged is told in the result, and the rest is checked all the same; an error means that something could
// not be looked at. progress, which may be nil, is told how many bytes are done.
func (a *Archive) Verify(ctx context.Context, engine journal.Log, progress func(done, total int64)) (Verified, error) {
	v := verifier{archive: a, progress: progress}
	err := v.run(ctx, engine)
	if err != nil {
		err = fmt.Errorf("verify journal: %w", err)
	}
	return v.result, err
}

// verifier is one verification.
type verifier struct {
	archive     *Archive
	result      Verified
	previous    *journal.Entry // the entry before, when it is known
	done, total int64
	progress    func(done, total int64)
}

func (v *verifier) run(ctx context.Context, engine journal.Log) error {
	l, err := v.archive.listed()
	if err != nil {
		return err
	}
	bucket, err := v.archive.bucket(ctx)
	if err != nil {
		return err
	}
	v.total = l.bytes
	first, last := uint64(0), uint64(0)
	if engine != nil {
		if first, last, err = engine.Bounds(ctx); err != nil {
			return err
		}
		v.total += max(0, sizeOf(ctx, engine))
	}
	files := append(append([]*file(nil), l.older...), l.files...)
	for i, f := range files {
		if i > 0 && files[i-1].last+1 != f.first {
			v.previous = nil // the archive begins anew here
		}
		if err := v.file(ctx, bucket, f); err != nil {
			return err
		}
	}
	if len(files) > 0 {
		v.result.First, v.result.Last = files[0].first, files[len(files)-1].last
	}
	if last == 0 {
		return nil
	}
	return v.journal(ctx, engine, first, last)
}

// sizeOf is about how many bytes an engine has.
func sizeOf(ctx context.Context, engine journal.Log) int64 {
	size, err := engine.Size(ctx)
	if err != nil {
		return 0 // only the progress is less exact
	}
	return size
}

// errNowhere means that batches are in no place where they could be.
var errNowhere = errors.New("they are neither in the archive nor in the journal")

// damaged notes damage. Batches of the journal that follow each other make one range, of which the first tells why.
func (v *verifier) damaged(file string, from, to uint64, err error) {
	if n := len(v.result.Damage); n > 0 && file == "" {
		d := &v.result.Damage[n-1]
		if d.File == "" && d.To+1 == from && !errors.Is(d.Err, errNowhere) {
			d.To = to
			return
		}
	}
	v.result.Damage = append(v.result.Damage, Damage{file, from, to, err})
}

func (v *verifier) advance(bytes int64) {
	v.done += bytes
	if v.progress != nil {
		v.progress(v.done, max(v.done, v.total))
	}
}

// file verifies one file.
func (v *verifier) file(ctx context.Context, bucket *blob.Bucket, f *file) error {
	done := v.done
	defer func() { v.advance(done + f.size - v.done) }()
	if !f.missing {
		v.result.Files++
	}
	x, err := f.readIndex(ctx, bucket)
	if err == nil {
		found := len(v.result.Damage)
		err = v.content(ctx, bucket, f, x)
		if len(v.result.Damage) > found && errors.Is(err, errFormat) {
			err = nil // it has been said where
		}
		v.previous = x.last()
	} else {
		v.previous = nil
	}
	if err == nil {
		return nil
	}
	corrupt, ok := errors.AsType[*journal.CorruptError](f.damaged(f.first, f.last, err))
	if !ok {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	v.damaged(f.name, corrupt.From, corrupt.To, err)
	return nil
}

// content verifies all bytes of a file whose index could be read.
func (v *verifier) content(ctx context.Context, bucket *blob.Bucket, f *file, x *index) error {
	r, err := bucket.NewReader(ctx, f.name, nil)
	if err != nil {
		return f.changed(ctx, bucket, err)
	}
	defer r.Close()
	sum := sha256.New()
	in := bufio.NewReaderSize(r, 256<<10)
	take := func(length uint64) ([]byte, error) {
		b := make([]byte, length)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, f.changed(ctx, bucket, err)
		}
		sum.Write(b)
		v.advance(int64(length))
		return b, nil
	}
	b, err := take(headSize)
	if err != nil {
		return err
	}
	h, err := readHead(b)
	if err == nil && (h != head{f.id, f.first, f.last}) {
		err = fmt.Errorf("%w: its head says that it holds batches %d-%d of journal %s", errFormat, h.first, h.last, h.id)
	}
	if err != nil {
		return err
	}
	for i := range x.places {
		p := &x.places[i]
		if b, err = take(p.size()); err != nil {
			return err
		}
		if err := v.block(f, p, b); err != nil {
			v.damaged(f.name, p.first, p.last(), err)
		}
		v.previous = &p.ending
	}
	if _, err = take(uint64(x.tail.packed)); err != nil {
		return err
	}
	if [32]byte(sum.Sum(nil)) != x.tail.sum {
		return fmt.Errorf("%w: its SHA-256 is not the one that it ends with", errFormat)
	}
	return nil
}

// block verifies a block and each of its entries.
func (v *verifier) block(f *file, p *place, packed []byte) error {
	b, err := readBlock(p, packed, f.id, v.previous)
	if err != nil {
		return err
	}
	for i := range b.ends {
		e, err := journal.ReadEntry(b.entry(p.first + uint64(i)))
		if err != nil {
			return fmt.Errorf("batch %d: %w", p.first+uint64(i), err)
		}
		v.count(&e)
	}
	return nil
}

func (v *verifier) count(e *journal.Entry) {
	v.result.Batches++
	v.result.Events += uint64(e.Events())
	v.result.Bytes += uint64(e.Size())
}

// journal verifies the journal itself. Batches that are archived too are counted once.
func (v *verifier) journal(ctx context.Context, engine journal.Log, first, last uint64) error {
	archived := v.result.Last
	switch {
	case archived == 0:
		v.result.First = first
	case archived+1 < first:
		v.damaged("", archived+1, first-1, errNowhere)
		v.previous = nil
	}
	v.result.Last = max(archived, last)
	border := v.previous // of the archive
	v.previous = nil
	for sequence := first; sequence <= last; sequence++ {
		e, err := readVerbatim(ctx, engine, v.archive.id, sequence)
		if err == nil {
			v.advance(int64(e.Size()))
			if err = v.follows(e, border); err == nil && sequence > archived {
				v.count(e)
			}
			v.previous = e
		} else {
			v.previous = nil
		}
		if err == nil {
			continue
		}
		now, _, bounds := engine.Bounds(ctx)
		switch {
		case bounds != nil:
			return errors.Join(bounds, err)
		case sequence < now: // it was trimmed meanwhile
		case unreadable(err):
			v.damaged("", sequence, sequence, err)
		default:
			return err
		}
	}
	return nil
}

// unreadable says whether an error means that an entry is damaged or not there.
func unreadable(err error) bool {
	return errors.Is(err, journal.ErrCorrupt) || errors.Is(err, journal.ErrMalformed) || errors.Is(err, journal.ErrNotFound) || errors.Is(err, errFormat)
}

// readVerbatim reads and checks an entry of an engine.
func readVerbatim(ctx context.Context, engine journal.Log, id journal.ID, sequence uint64) (*journal.Entry, error) {
	b, err := engine.Read(ctx, sequence)
	if err != nil {
		return nil, err
	}
	e, err := journal.ReadEntry(b)
	if err != nil {
		return nil, err
	}
	if e.Sequence() != sequence || e.Journal() != id {
		return nil, fmt.Errorf("%w: it says that it is batch %d of journal %s", errFormat, e.Sequence(), e.Journal())
	}
	return &e, nil
}

// follows says whether an entry of the journal follows the one before, and the archive's last.
func (v *verifier) follows(e, border *journal.Entry) error {
	before := v.previous
	if border != nil {
		switch e.Sequence() {
		case border.Sequence():
			if e.Checksum() != border.Checksum() {
				return fmt.Errorf("%w: its checksum is %08x, the archive's is %08x", errFormat, e.Checksum(), border.Checksum())
			}
		case border.Sequence() + 1:
			before = border
		}
	}
	if before != nil && e.PreviousChecksum() != before.Checksum() {
		return fmt.Errorf("%w: it does not follow batch %d", errFormat, before.Sequence())
	}
	return nil
}
