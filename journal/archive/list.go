package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/journal"
)

// ErrOverlap means that two files hold the same batches: two programs have written the archive of one journal.
var ErrOverlap = errors.New("archive files overlap")

// listing is what an archive consists of. It is immutable.
type listing struct {
	files     []*file // that follow each other up to the newest, those that are missing among them
	older     []*file // from before a time in which nothing was archived
	beginning bool    // nothing was ever before the first of files
	count     int     // of files that are there, older ones too
	bytes     int64   // of them
}

// listFiles finds the files of a journal, in order.
func listFiles(ctx context.Context, bucket *blob.Bucket, id journal.ID) (files []*file, leftovers []string, err error) {
	it := bucket.List(&blob.ListOptions{Prefix: folder(id)})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", folder(id), err)
		}
		first, last, ok := parseName(id, o.Key)
		switch {
		case ok:
			files = append(files, &file{name: o.Key, id: id, first: first, last: last, size: o.Size})
		case strings.HasSuffix(o.Key, ".tmp"):
			leftovers = append(leftovers, o.Key)
		}
	}
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(files); i++ {
		if files[i].first <= files[i-1].last {
			return nil, nil, fmt.Errorf("%w: %s and %s", ErrOverlap, files[i-1].name, files[i].name)
		}
	}
	return files, leftovers, nil
}

// Journals lists the journals that a blob store has files of.
func Journals(ctx context.Context, bucket *blob.Bucket) ([]journal.ID, error) {
	var ids []journal.ID
	it := bucket.List(&blob.ListOptions{Prefix: Prefix, Delimiter: "/"})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", Prefix, err)
		}
		if id, err := journal.ParseID(strings.TrimSuffix(strings.TrimPrefix(o.Key, Prefix), "/")); err == nil {
			ids = append(ids, id)
		}
	}
}

// arrange finds where the files that lead up to the newest begin, and which of them are missing. index reads the index of a
// file.
func arrange(files []*file, index func(*file) (*index, error)) (*listing, error) {
	l := &listing{}
	for _, f := range files {
		l.count++
		l.bytes += f.size
		if n := len(l.files); n > 0 && l.files[n-1].last+1 != f.first {
			if err := l.bridge(f, index); err != nil {
				return nil, err
			}
		}
		l.files = append(l.files, f)
	}
	if len(l.files) == 0 {
		return l, nil
	}
	x, err := index(l.files[0])
	switch {
	case err == nil:
		l.beginning = x.first.First()
	case !errors.Is(err, journal.ErrCorrupt):
		return nil, err
	}
	return l, nil
}

// bridge decides what a hole before a file is: files that are missing, or a time in which nothing was archived.
func (l *listing) bridge(f *file, index func(*file) (*index, error)) error {
	from := l.files[len(l.files)-1].last + 1
	x, err := index(f)
	if err != nil && !errors.Is(err, journal.ErrCorrupt) {
		return err
	}
	if err == nil && x.Previous == "" { // it begins anew
		l.older, l.files = append(l.older, l.files...), nil
		return nil
	}
	to := f.first - 1
	if err == nil {
		if first, last, ok := parseName(f.id, x.Previous); ok && first > from && last == to {
			l.files = append(l.files, missing(f.id, from, first-1))
			from = first
		}
	}
	l.files = append(l.files, missing(f.id, from, to))
	return nil
}

// missing is a file that should be there; or several, of which the names are not known.
func missing(id journal.ID, first, last uint64) *file {
	return &file{name: nameOf(id, first, last), id: id, first: first, last: last, missing: true}
}

// span is the range of the files.
func (l *listing) span() journal.ArchiveRange {
	if len(l.files) == 0 {
		return journal.ArchiveRange{}
	}
	return journal.ArchiveRange{First: l.files[0].first, Last: l.files[len(l.files)-1].last, Beginning: l.beginning}
}

// find is the number of the file that holds a sequence, or would hold it.
func (l *listing) find(sequence uint64) int {
	return sort.Search(len(l.files), func(i int) bool { return l.files[i].last >= sequence })
}

// with is the listing with a new file at its end. alone says that it begins anew.
func (l *listing) with(f *file, alone, beginning bool) *listing {
	next := &listing{files: l.files, older: l.older, beginning: l.beginning, count: l.count + 1, bytes: l.bytes + f.size}
	if alone {
		next.older = append(slices.Clip(next.older), next.files...)
		next.files, next.beginning = nil, beginning
	}
	next.files = append(slices.Clip(next.files), f)
	return next
}
